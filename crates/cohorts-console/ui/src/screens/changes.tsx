// Who entered and left which cohort, the newest first, live. The cohort of the filter stays behind `#`.

import { useMemo, useRef, useState } from 'preact/hooks';
import { ApiError } from '../api/error';
import { changes as feed } from '../api/resources';
import type { FeedStart } from '../api/resources';
import type { CohortChange } from '../api/types';
import { Time, plural } from '../parts/format';
import { LiveMark, changedName, useNews } from '../parts/live';
import { useLoad } from '../parts/load';
import { Empty, Show, useTitle } from '../parts/state';
import { catalogue, cohortName } from '../state/catalogue';
import { href, place, setHidden } from '../state/router';

const MINUTE = 60_000;
/** The past is read in growing spans until there are enough rows. */
const SPANS = [5 * MINUTE, 60 * MINUTE, 24 * 60 * MINUTE, 7 * 24 * 60 * MINUTE];
const ENOUGH = 100;
const MOST = 500;
const STEP = 50;
const MOST_PAGES = 10;

const CAUSES: Record<string, string> = {
  data: 'events or properties',
  time: 'time passed',
  criteria: 'criteria changed',
  upload: 'upload',
  manual: 'by hand',
  query: 'query',
  merge: 'persons merged',
  person_deleted: 'person deleted',
  mixed: 'several causes',
};

/** The newest changes, the newest first. */
async function recent(cohort: number | undefined, signal: AbortSignal): Promise<CohortChange[]> {
  let rows: CohortChange[] = [];
  for (const span of SPANS) {
    try {
      rows = await since(new Date(Date.now() - span).toISOString(), cohort, signal);
    } catch (error) {
      // The log of changes does not reach back so far.
      if (error instanceof ApiError && error.status === 410) break;
      throw error;
    }
    if (rows.length >= ENOUGH) break;
  }
  return rows.reverse();
}

async function since(from: string, cohort: number | undefined, signal: AbortSignal): Promise<CohortChange[]> {
  let rows: CohortChange[] = [];
  let start: FeedStart = { from };
  for (let read = 0; read < MOST_PAGES; read += 1) {
    const page = await feed.page(start, cohort, signal);
    rows = [...rows, ...page.results].slice(-MOST);
    if (!page.has_more) break;
    start = { cursor: page.cursor };
  }
  return rows;
}

const keyOf = ({ cohort_id: cohort, version, change, person }: CohortChange) => `${cohort} ${version} ${change} ${person.uuid}`;

export function ChangesScreen() {
  useTitle('Changes');
  const cohort = Number(place.value.hidden.get('cohort')) || undefined;
  const loaded = useLoad((signal) => recent(cohort, signal), [cohort]);
  const [fresh, setFresh] = useState<CohortChange[]>([]);
  const [isPaused, setPaused] = useState(false);
  const held = useRef<CohortChange[]>([]);
  useNews(({ changes, isGap }) => {
    if (isGap) loaded.reload();
    held.current = [...changes.toReversed(), ...held.current].slice(0, MOST);
    if (!isPaused) setFresh(held.current);
  });
  const pause = () => {
    setPaused(!isPaused);
    setFresh(held.current);
  };
  return (
    <div class="screen">
      <header class="title">
        <div class="heading">
          <h1>Changes</h1>
          <p class="lead">Who entered and left, the newest first. Programs read the same from the feed, or receive it by a webhook.</p>
        </div>
        <div class="actions">
          <a class="button" href={href('/webhooks')}>
            Webhooks
          </a>
        </div>
      </header>
      <div class="toolbar">
        <CohortChoice value={cohort} />
        <button type="button" aria-pressed={isPaused} onClick={pause}>
          {isPaused ? 'Continue' : 'Pause'}
        </button>
        <LiveMark />
      </div>
      <Show loaded={loaded} what="the changes">
        {(past) => <Rows past={past} fresh={fresh} cohort={cohort} />}
      </Show>
    </div>
  );
}

function CohortChoice({ value }: { value: number | undefined }) {
  const { cohorts } = catalogue.value;
  return (
    <select aria-label="Cohort" value={value ?? ''} onChange={(event) => setHidden({ cohort: event.currentTarget.value })}>
      <option value="">All cohorts</option>
      {value !== undefined && !cohorts.some(({ id }) => id === value) && <option value={value}>Cohort {value}</option>}
      {cohorts.map(({ id, name }) => (
        <option key={id} value={id}>
          {name || 'Unnamed'}
        </option>
      ))}
    </select>
  );
}

function Rows({ past, fresh, cohort }: { past: CohortChange[]; fresh: CohortChange[]; cohort: number | undefined }) {
  const rows = useMemo(() => {
    const all = [...fresh.filter(({ cohort_id: id }) => cohort === undefined || id === cohort), ...past];
    return [...new Map(all.map((row) => [keyOf(row), row])).values()].slice(0, MOST);
  }, [past, fresh, cohort]);
  const [shown, setShown] = useState(STEP);
  if (rows.length === 0) {
    return (
      <Empty title="No changes in the last 7 days">
        <p>A person who enters or leaves {cohort === undefined ? 'a cohort' : 'the cohort'} appears here at once. Leave the page open.</p>
      </Empty>
    );
  }
  return (
    <>
      <table class="changes">
        <thead>
          <tr>
            <th>Time</th>
            <th>Person</th>
            <th>Change</th>
            <th>Cohort</th>
            <th class="wide">Why</th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, shown).map((row) => (
            <Row key={keyOf(row)} row={row} />
          ))}
        </tbody>
      </table>
      <div class="toolbar">
        <span class="faint">{rows.length === MOST ? `The newest ${MOST} changes` : plural(rows.length, 'change')}</span>
        {rows.length > shown && (
          <button type="button" onClick={() => setShown(shown + STEP)}>
            Show more
          </button>
        )}
      </div>
    </>
  );
}

function Row({ row }: { row: CohortChange }) {
  const { change, cohort_id: id, at, cause, person } = row;
  const target = person.merged_into ?? person.uuid;
  return (
    <tr>
      <td>
        <Time value={at} />
      </td>
      <td class="person">
        {person.deleted ? (
          <span class="faint">a deleted person</span>
        ) : (
          <a href={href('/people', { id: target })}>{changedName(row)}</a>
        )}
      </td>
      <td>
        <span class={`tag ${change}`}>{change}</span>
      </td>
      <td class="name">
        <a href={href(`/cohorts/${id}`)}>{cohortName(id) ?? `Cohort ${id}`}</a>
      </td>
      <td class="wide faint">{CAUSES[cause] ?? cause}</td>
    </tr>
  );
}
