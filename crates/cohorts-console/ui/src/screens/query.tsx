// A cohort by a query: its members are the persons of the query now, or a list that the query fills once. What is typed is
// kept in the tab until it is saved.

import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { ApiError } from '../api/error';
import type { Cohort } from '../api/types';
import { placeOf } from '../model/query';
import { notify } from '../parts/dialog';
import { Field } from '../parts/field';
import { Icon } from '../parts/icons';
import { useLoad } from '../parts/load';
import { Failure, Show, useTitle } from '../parts/state';
import { dropDraft, loadDraft, saveDraft } from '../state/draft';
import { loadCatalogue } from '../state/catalogue';
import { go, href } from '../state/router';
import { session } from '../state/session';
import { Result } from './builder-result';
import { MOST_NAME, NAME_MISSING } from './details';
import { NamesMissing } from './names-missing';
import { QueryField } from './query-field';
import { SaveProblems } from './save-problems';
import { queryProblem, useQueryPreview } from './query-preview';

const EXAMPLES: [string, string][] = [
  ['Did an event often', "SELECT person_id FROM events\nWHERE event = 'purchase' AND timestamp > now() - INTERVAL 30 DAY\nGROUP BY person_id HAVING count() >= 3"],
  ['Has a property', "SELECT id FROM persons\nWHERE properties.plan = 'pro' AND properties.email ILIKE '%@example.org'"],
  ['In one cohort and not in another', 'SELECT person_id FROM cohort_people WHERE cohort_id = 1\nEXCEPT\nSELECT person_id FROM cohort_people WHERE cohort_id = 2'],
];

interface Draft {
  name: string;
  query: string;
  /** Whether the members follow the query; otherwise it fills a list once. */
  isDynamic: boolean;
}

const EMPTY: Draft = { name: '', query: '', isDynamic: true };

function queryNote(query: string, problem: string | undefined): string | undefined {
  if (query.trim() === '') return 'Write a query to see who matches.';
  return problem === undefined ? undefined : 'Correct the query.';
}

export function QueryScreen({ id }: { id: number | undefined }) {
  useTitle(id === undefined ? 'Cohort from a query' : 'Edit query');
  const loaded = useLoad(async (signal) => (id === undefined ? EMPTY : draftOf(await cohorts.get(id, signal))), [id]);
  return (
    <Show loaded={loaded} what="the query">
      {(start) => <Editor start={start} id={id} />}
    </Show>
  );
}

function draftOf({ name, query, is_static: isStatic }: Cohort): Draft {
  const { query: text } = (query ?? {}) as { query?: unknown };
  return { name: name ?? '', query: typeof text === 'string' ? text : '', isDynamic: !isStatic };
}

function Editor({ start, id }: { start: Draft; id: number | undefined }) {
  const project = session.value?.project.id ?? 0;
  const draftId = id === undefined ? 'query' : `query ${id}`;
  const [draft, setDraft] = useState<Draft>(() => loadDraft<Draft>(project, draftId) ?? start);
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const [isStrict, setStrict] = useState(false);
  const isNameless = draft.name.trim() === '';
  const nameField = useRef<HTMLInputElement>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    if (JSON.stringify(draft) !== JSON.stringify(start)) saveDraft(project, draftId, draft);
  }, [draft]);
  const change = (next: Partial<Draft>) => {
    setDraft({ ...draft, ...next });
    setFailure(undefined);
  };
  const preview = useQueryPreview(draft.query, id === undefined || !draft.isDynamic ? undefined : id);
  const queryError = queryProblem(failure) ?? preview.problem;
  const nameError = isStrict && isNameless ? NAME_MISSING : failure instanceof ApiError && failure.attr === 'name' ? failure.detail : undefined;
  const place = queryError === undefined ? undefined : placeOf(queryError, draft.query);

  const save = async (event: Event) => {
    event.preventDefault();
    if (isNameless) {
      setStrict(true);
      nameField.current?.focus();
      return;
    }
    setBusy(true);
    try {
      const query = { kind: 'HogQLQuery', query: draft.query };
      const body = { name: draft.name.trim(), query };
      const saved = id === undefined ? await cohorts.create({ ...body, is_static: !draft.isDynamic }) : await cohorts.update(id, body);
      dropDraft(project, draftId);
      void loadCatalogue();
      go(`/cohorts/${saved.id}`);
      notify(id === undefined ? 'The cohort is created. Its members are being calculated.' : 'The changes are saved.');
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  const showPlace = () => {
    if (!place || !area.current) return;
    area.current.focus();
    area.current.setSelectionRange(place.from, place.to);
  };
  return (
    <form class="screen builder" onSubmit={save}>
      <nav class="crumbs" aria-label="Path">
        <a href={href(id === undefined ? '/cohorts' : `/cohorts/${id}`)}>
          <Icon name="back" />
          {id === undefined ? 'Cohorts' : start.name || 'Unnamed'}
        </a>
      </nav>
      <header class="title">
        <div class="heading">
          <h1>{id === undefined ? 'Cohort from a query' : 'Edit query'}</h1>
          <p class="lead">The query selects persons. It is translated and never run as SQL.</p>
        </div>
      </header>
      <div class="builder-body">
        <div class="builder-main">
          <Field label="Name" error={nameError}>
            {(id) => <input ref={nameField} id={id} aria-required="true" aria-invalid={nameError === undefined ? undefined : 'true'} value={draft.name} maxLength={MOST_NAME} placeholder="Such as: Bought three times" onInput={(event) => change({ name: event.currentTarget.value })} />}
          </Field>
          <Field label="Query" hint="A SELECT of persons from persons, events or cohort_people. UNION, INTERSECT and EXCEPT join several.">
            {(id) => (
              <QueryField id={id} text={draft.query} place={place} isInvalid={queryError !== undefined} area={area} change={(query) => change({ query })} />
            )}
          </Field>
          <div role="status">{queryError !== undefined && <Mistake text={queryError} place={place} show={showPlace} />}</div>
          <NamesMissing />
          {id === undefined && (
            <fieldset class="checks">
              <legend>Members</legend>
              <label>
                <input type="radio" name="members" checked={draft.isDynamic} onChange={() => change({ isDynamic: true })} />
                Follow the query: always the persons that it selects
              </label>
              <label>
                <input type="radio" name="members" checked={!draft.isDynamic} onChange={() => change({ isDynamic: false })} />
                Fill a list once, when it is saved
              </label>
            </fieldset>
          )}
          <Examples choose={(query) => change({ query })} />
        </div>
        <aside class="builder-side">
          <Result preview={preview} note={queryNote(draft.query, queryError)} none="Look for the test that no person passes." />
          {failure !== undefined && queryError === undefined && nameError === undefined && <Failure error={failure} />}
          <div class="save">
            <button type="submit" class="primary" disabled={isBusy || draft.query.trim() === ''}>
              {isBusy ? 'Saving …' : id === undefined ? 'Save cohort' : 'Save changes'}
            </button>
            <SaveProblems isNameless={isNameless} incomplete={0} isStrict={isStrict} />
          </div>
        </aside>
      </div>
    </form>
  );
}

function Mistake({ text, place, show }: { text: string; place: ReturnType<typeof placeOf>; show: () => void }) {
  return (
    <div class="failure">
      <Icon name="warning" />
      <div>
        <strong>The query cannot be used{place ? `: line ${place.line}, column ${place.column}` : ''}</strong>
        <p>{text}</p>
        {place && (
          <button type="button" onClick={show}>
            Show the place
          </button>
        )}
      </div>
    </div>
  );
}

function Examples({ choose }: { choose: (query: string) => void }) {
  return (
    <section>
      <h2>Examples</h2>
      <ul class="choices">
        {EXAMPLES.map(([words, text]) => (
          <li key={words}>
            <button type="button" onClick={() => choose(text)}>
              <strong>{words}</strong>
              <pre>{text}</pre>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
