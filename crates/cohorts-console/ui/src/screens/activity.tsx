// What happened to a cohort: edits with a way back, calculations, and errors in words.

import { useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { isAbort } from '../api/error';
import type { ActivityEntry, Calculation, Cohort } from '../api/types';
import { read } from '../model/filter';
import type { Json } from '../model/filter';
import { show, summary } from '../model/sentence';
import { notify } from '../parts/dialog';
import { Time, plural } from '../parts/format';
import { useLoad } from '../parts/load';
import { Empty, Failure, Show } from '../parts/state';
import { names } from '../state/catalogue';

type Entry = { time: string; edit: ActivityEntry } | { time: string; calculation: Calculation };
type Kind = 'all' | 'edits' | 'calculations' | 'errors';
const KINDS: [Kind, string][] = [
  ['all', 'All'],
  ['edits', 'Edits'],
  ['calculations', 'Calculations'],
  ['errors', 'Errors'],
];

interface History {
  entries: Entry[];
  /** Why the edits are missing. */
  editsError: unknown;
}

async function load(id: number, signal: AbortSignal): Promise<History> {
  // The edits need a scope of their own. Without it the calculations are still shown.
  let editsError: unknown;
  const [edits, calculations] = await Promise.all([
    cohorts.activity(id, signal).then(
      ({ results }) => results,
      (error: unknown) => {
        if (isAbort(error)) throw error;
        editsError = error;
        return [];
      },
    ),
    cohorts.calculations(id, signal),
  ]);
  const entries: Entry[] = [
    ...edits.map((edit) => ({ time: edit.created_at, edit })),
    ...calculations.map((calculation) => ({ time: calculation.started_at, calculation })),
  ];
  entries.sort((a, b) => b.time.localeCompare(a.time));
  return { entries, editsError };
}

function isShown(entry: Entry, kind: Kind): boolean {
  if (kind === 'edits') return 'edit' in entry;
  if (kind === 'calculations') return 'calculation' in entry;
  return kind !== 'errors' || ('calculation' in entry && entry.calculation.error !== null);
}

export function ActivityTab({ cohort, reload }: { cohort: Cohort; reload: () => void }) {
  const [kind, setKind] = useState<Kind>('all');
  const [failure, setFailure] = useState<unknown>();
  const loaded = useLoad((signal) => load(cohort.id, signal), [cohort.id, cohort.version, cohort.is_calculating]);
  const revert = async (change: object) => {
    try {
      await cohorts.update(cohort.id, change);
      notify('The former state is back.');
      setFailure(undefined);
      loaded.reload();
      reload();
    } catch (error) {
      setFailure(error);
    }
  };
  return (
    <section>
      <div class="toolbar">
        <div class="segments" role="group" aria-label="Show">
          {KINDS.map(([value, words]) => (
            <button key={value} type="button" aria-pressed={value === kind} onClick={() => setKind(value)}>
              {words}
            </button>
          ))}
        </div>
      </div>
      {failure !== undefined && <Failure error={failure} />}
      <Show loaded={loaded} what="the activity">
        {({ entries, editsError }) => {
          const shown = entries.filter((entry) => isShown(entry, kind));
          return (
            <>
              {editsError !== undefined && kind !== 'calculations' && kind !== 'errors' && <Failure error={editsError} />}
              {shown.length === 0 ? (
                <Empty title={kind === 'errors' ? 'No errors' : 'Nothing happened yet'}>
                  <p>{kind === 'errors' ? 'Every listed calculation succeeded.' : 'Edits and calculations of the cohort appear here.'}</p>
                </Empty>
              ) : (
                <ol class="timeline">
                  {shown.map((entry, at) => (
                    <li key={`${entry.time} ${at}`}>
                      <Time value={entry.time} />
                      {'edit' in entry ? <Edit edit={entry.edit} revert={cohort.deleted ? undefined : revert} /> : <Run calculation={entry.calculation} />}
                    </li>
                  ))}
                </ol>
              )}
            </>
          );
        }}
      </Show>
    </section>
  );
}

const WORDS: Record<string, string> = {
  created: 'created the cohort',
  updated: 'changed',
  deleted: 'deleted the cohort',
  restored: 'restored the cohort',
  persons_added_manually: 'added persons',
  person_removed_manually: 'removed persons',
};
const REVERSIBLE = ['name', 'description', 'filters', 'query'];

function Edit({ edit, revert }: { edit: ActivityEntry; revert: ((change: object) => Promise<void>) | undefined }) {
  const { activity, detail, user } = edit;
  const changes = (detail.changes ?? []).filter(({ field }) => field !== null);
  return (
    <div class="entry">
      <p>
        <b>{user.email ?? user.first_name}</b> {WORDS[activity] ?? activity}
        {activity === 'updated' && changes.length > 0 && ` ${changes.map(({ field }) => fieldWords(field)).join(', ')}`}
      </p>
      {activity === 'updated' && changes.map((change) => (
        <dl class="change" key={change.field}>
          {changes.length > 1 && <dt class="what">{fieldWords(change.field)}</dt>}
          <dt>before</dt>
          <dd>{valueWords(change.field, change.before as Json)}</dd>
          <dt>after</dt>
          <dd>{valueWords(change.field, change.after as Json)}</dd>
          {revert && change.field && REVERSIBLE.includes(change.field) && change.before !== null && change.before !== undefined && (
            <dd class="revert">
              <button type="button" class="link" onClick={() => void revert({ [change.field as string]: change.before })}>
                Go back to before
              </button>
            </dd>
          )}
        </dl>
      ))}
    </div>
  );
}

const fieldWords = (field: string | null) => (field === 'filters' ? 'the criteria' : `the ${(field ?? '').replaceAll('_', ' ')}`);

function valueWords(field: string | null, value: Json | undefined): string {
  if (value === null || value === undefined || value === '') return 'none';
  if (field !== 'filters') return show(value);
  try {
    return summary(read(value), names) || 'no criteria';
  } catch {
    return JSON.stringify(value);
  }
}

function Run({ calculation }: { calculation: Calculation }) {
  const { count, error, duration_seconds: seconds, is_completed: isCompleted } = calculation;
  if (!isCompleted) {
    return (
      <p class="entry">
        <span class="tag busy">calculating</span>
      </p>
    );
  }
  const duration = seconds === null ? '' : ` in ${seconds < 1 ? `${Math.round(seconds * 1_000)} ms` : `${seconds.toFixed(1)} s`}`;
  if (error !== null) {
    return (
      <div class="entry">
        <p>
          <span class="tag bad">error</span> The calculation failed{duration}: {error}
        </p>
      </div>
    );
  }
  return (
    <p class="entry">
      Calculated{duration}: {plural(count ?? 0, 'member')}
    </p>
  );
}
