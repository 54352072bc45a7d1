// The builder: criteria as sentences, with a count for each and for the whole cohort after every key. What is typed is kept
// in the tab until it is saved.

import { useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { ApiError } from '../api/error';
import type { Cohort } from '../api/types';
import { add, copy, criteria } from '../model/edit';
import { problem } from '../model/check';
import { group, read, write } from '../model/filter';
import type { Group, Json } from '../model/filter';
import { notify } from '../parts/dialog';
import { Field } from '../parts/field';
import { persons } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad } from '../parts/load';
import { Failure, Loading, Show, useTitle } from '../parts/state';
import { dropDraft, loadDraft, saveDraft } from '../state/draft';
import { loadCatalogue } from '../state/catalogue';
import { go, href } from '../state/router';
import { session } from '../state/session';
import { JsonEditor } from './builder-json';
import { GroupEditor } from './builder-group';
import { usePreview } from './builder-preview';
import { Result, filterNote } from './builder-result';
import { MOST_DESCRIPTION, MOST_NAME, NAME_MISSING } from './details';
import { SaveProblems } from './save-problems';
import { NamesMissing } from './names-missing';

/** What the user typed. `filters` comes from a copy of a cohort, and `root` from this screen. */
interface Draft {
  name: string;
  description: string;
  filters?: Json;
  root?: Group;
}

interface Start {
  cohort: Cohort | undefined;
  name: string;
  description: string;
  root: Group;
  isDraft: boolean;
}

/** Why the count is not that of the cohort. */
function partialWords(incomplete: number): string | undefined {
  if (incomplete === 0) return undefined;
  return `Not final: ${incomplete === 1 ? '1 criterion is' : `${incomplete} criteria are`} incomplete.`;
}

const emptyRoot = () => group('AND', []);

/** The draft of the tab; else the saved cohort; else an empty one. */
function startOf(cohort: Cohort | undefined, draft: Draft | undefined): Start {
  const saved = { cohort, name: cohort?.name ?? '', description: cohort?.description ?? '' };
  const savedRoot = () => (cohort ? read(cohort.filters as Json) : emptyRoot());
  if (!draft) return { ...saved, root: savedRoot(), isDraft: false };
  const root = draft.root ? (copy(draft.root) as Group) : draft.filters !== undefined ? read(draft.filters) : savedRoot();
  return { cohort, name: draft.name, description: draft.description, root, isDraft: true };
}

export function BuilderScreen({ id }: { id: number | undefined }) {
  const [round, setRound] = useState(0);
  const project = session.value?.project.id ?? 0;
  const draftId = id === undefined ? 'new' : String(id);
  const loaded = useLoad(async (signal) => (id === undefined ? null : cohorts.get(id, signal)), [id]);
  useTitle(id === undefined ? 'New cohort' : `Edit ${loaded.data?.name ?? 'cohort'}`);
  const start = useMemo(() => {
    if (loaded.data === undefined) return undefined;
    try {
      return startOf(loaded.data ?? undefined, loadDraft<Draft>(project, draftId));
    } catch {
      return 'unreadable' as const;
    }
  }, [loaded.data === undefined, round]);
  return (
    <Show loaded={loaded} what="the cohort">
      {() => {
        if (start === undefined) return <Loading what="the criteria" />;
        if (start === 'unreadable') return <Failure error={new Error('The criteria of this cohort have a form that this page cannot edit.')} />;
        const discard = () => {
          dropDraft(project, draftId);
          setRound((value) => value + 1);
        };
        return <Builder key={round} start={start} draftId={draftId} project={project} discard={discard} />;
      }}
    </Show>
  );
}

interface Properties {
  start: Start;
  project: number;
  draftId: string;
  discard: () => void;
}

function Builder({ start, project, draftId, discard }: Properties) {
  const { cohort } = start;
  const [name, setName] = useState(start.name);
  const [description, setDescription] = useState(start.description);
  const [root, setRoot] = useState(start.root);
  const [isChanged, setChanged] = useState(start.isDraft);
  const [isStrict, setStrict] = useState(false);
  const [failure, setFailure] = useState<unknown>();
  const [isBusy, setBusy] = useState(false);
  const preview = usePreview(root, cohort?.id);
  const screen = useRef<HTMLDivElement>(null);

  const isFirst = useRef(true);
  useLayoutEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return;
    }
    setChanged(true);
    saveDraft(project, draftId, { name, description, root } satisfies Draft);
  }, [name, description, root]);

  const change = (next: Group, undo?: string) => {
    setFailure(undefined);
    if (undo) notify(undo, { words: 'Undo', run: () => setRoot(root) });
    setRoot(next);
  };
  const incomplete = [...criteria(root)].filter((criterion) => problem(criterion) !== undefined);

  const isNameless = name.trim() === '';
  const save = async () => {
    if (incomplete.length > 0 || isNameless) {
      setStrict(true);
      requestAnimationFrame(() => screen.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus());
      return;
    }
    setBusy(true);
    setFailure(undefined);
    try {
      const { filters } = write(root);
      const body = { name: name.trim(), description, filters };
      const saved = cohort ? await cohorts.update(cohort.id, body) : await cohorts.create({ ...body, is_static: false });
      dropDraft(project, draftId);
      void loadCatalogue();
      go(`/cohorts/${saved.id}`);
      notify(cohort ? 'The changes are saved.' : `“${saved.name || 'Unnamed'}” is created.`);
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  const nameError = isStrict && isNameless ? NAME_MISSING : failure instanceof ApiError && failure.attr === 'name' ? failure.detail : undefined;
  const descriptionError = failure instanceof ApiError && failure.attr === 'description' ? failure.detail : undefined;
  const isOther = failure !== undefined && !nameError && !descriptionError;
  return (
    <div class="screen builder" ref={screen}>
      <nav class="crumbs" aria-label="Path">
        <a href={href(cohort ? `/cohorts/${cohort.id}` : '/cohorts')}>
          <Icon name="back" />
          {cohort ? cohort.name || 'Unnamed' : 'Cohorts'}
        </a>
      </nav>
      <header class="title">
        <h1>{cohort ? 'Edit cohort' : 'New cohort'}</h1>
      </header>
      {start.isDraft && (
        <p class="note" role="status">
          These are your unsaved changes. <button type="button" class="link" onClick={discard}>{cohort ? 'Go back to the saved cohort' : 'Begin again'}</button>
        </p>
      )}
      <div class="builder-body">
        <div class="builder-main">
          <div class="names">
            <Field label="Name" error={nameError}>
              {(id) => <input id={id} aria-required="true" aria-invalid={nameError === undefined ? undefined : 'true'} value={name} maxLength={MOST_NAME} placeholder="Such as: Paying, active last month" onInput={(event) => setName(event.currentTarget.value)} />}
            </Field>
            <Field label="Description" error={descriptionError}>
              {(id) => <input id={id} value={description} maxLength={MOST_DESCRIPTION} placeholder="Optional" onInput={(event) => setDescription(event.currentTarget.value)} />}
            </Field>
          </div>
          <section class="panel" aria-label="Criteria">
            <GroupEditor root={root} group={root} change={change} preview={preview} isStrict={isStrict} depth={0} append={(id, node) => change(add(root, id, node))} />
          </section>
          <NamesMissing />
          <JsonEditor root={root} change={change} />
        </div>
        <aside class="builder-side">
          <Result preview={preview} note={filterNote(preview, root.nodes.length === 0)} partial={preview.count === undefined ? undefined : partialWords(incomplete.length)} none={`Look for the criterion with ${persons(0)}.`} />
          {isOther && <Failure error={failure} retry={() => void save()} />}
          <div class="save">
            <button type="button" class="primary" disabled={isBusy || (cohort !== undefined && !isChanged)} onClick={() => void save()}>
              {isBusy ? 'Saving …' : cohort ? 'Save changes' : 'Save cohort'}
            </button>
            <SaveProblems isNameless={isNameless} incomplete={incomplete.length} isStrict={isStrict} />
          </div>
        </aside>
      </div>
    </div>
  );
}
