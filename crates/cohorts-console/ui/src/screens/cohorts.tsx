// All cohorts of the project: search, filters, order; create, copy, delete and restore.

import { useMemo, useRef, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { explain } from '../api/error';
import type { Cohort } from '../api/types';
import { read } from '../model/filter';
import type { Json } from '../model/filter';
import { summary } from '../model/sentence';
import { notify } from '../parts/dialog';
import { SearchField } from '../parts/field';
import { Time, number, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { LiveMark, useChanged, useNews } from '../parts/live';
import { useLoad, usePolling } from '../parts/load';
import { Menu } from '../parts/menu';
import { Empty, Failure, Loading, Show, useTitle } from '../parts/state';
import { Trend } from '../parts/trend';
import { names } from '../state/catalogue';
import { go, href, place, setHidden } from '../state/router';
import { saveDraft } from '../state/draft';
import { session } from '../state/session';
import { trend } from '../state/trends';
import { queryText } from './criteria';
import { DeleteDialog } from './delete';

type Kind = 'all' | 'dynamic' | 'static' | 'failing' | 'deleted';
const KINDS: [Kind, string][] = [
  ['all', 'All'],
  ['dynamic', 'Dynamic'],
  ['static', 'Lists'],
  ['failing', 'With errors'],
  ['deleted', 'Deleted'],
];

type Order = 'name' | 'count' | 'created_at' | 'last_calculation';

const REFRESH = 5_000;
const SLOW_REFRESH = 30_000;
/** Above this number of changed cohorts, all are loaded in one request. */
const MOST_SINGLE = 10;

/** Who entered and left since the screen was opened, by cohort. */
type Moves = Map<number, { entered: number; left: number }>;

export function CohortsScreen() {
  useTitle('Cohorts');
  const { hidden } = place.value;
  const kind = (KINDS.find(([value]) => value === hidden.get('show')) ?? KINDS[0])?.[0] ?? 'all';
  const search = hidden.get('search') ?? '';
  const loaded = useLoad((signal) => cohorts.all(signal), []);
  usePolling(loaded.reload, loaded.data?.some((cohort) => cohort.is_calculating) ? REFRESH : SLOW_REFRESH, true);
  const shown = useRef(loaded.data);
  shown.current = loaded.data;
  useChanged(async (ids) => {
    if (!ids || ids.size > MOST_SINGLE) return loaded.reload();
    const fresh = await Promise.all([...ids].map((id) => cohorts.get(id).catch(() => undefined)));
    const byId = new Map(fresh.flatMap((cohort) => (cohort ? [[cohort.id, cohort]] : [])));
    if (shown.current) loaded.set(shown.current.map((cohort) => byId.get(cohort.id) ?? cohort));
  });
  const moves = useMoves();
  return (
    <div class="screen">
      <header class="title">
        <div class="heading">
          <h1>Cohorts</h1>
          <LiveMark />
        </div>
        <div class="actions">
          <a class="button primary" href={href('/cohorts/new')}>
            <Icon name="add" />
            New cohort
          </a>
          <a class="button" href={href('/lists/new')}>
            <Icon name="file" />
            From a file
          </a>
          <a class="button" href={href('/queries/new')}>
            <Icon name="query" />
            From a query
          </a>
          <a class="button" href={href('/overlap')}>
            <Icon name="cohort" />
            Overlap
          </a>
        </div>
      </header>
      <div class="toolbar">
        <SearchField value={search} label="Search cohorts" change={(text) => setHidden({ search: text })} />
        <div class="segments" role="group" aria-label="Show">
          {KINDS.map(([value, words]) => (
            <button key={value} type="button" aria-pressed={value === kind} onClick={() => setHidden({ show: value === 'all' ? '' : value })}>
              {words}
            </button>
          ))}
        </div>
      </div>
      {kind === 'deleted' ? (
        <Deleted search={search} restored={loaded.reload} />
      ) : (
        <Show loaded={loaded} what="the cohorts">
          {(all) => <List all={all} kind={kind} search={search} moves={moves} reload={loaded.reload} />}
        </Show>
      )}
    </div>
  );
}

function useMoves(): Moves {
  const [moves, setMoves] = useState<Moves>(new Map());
  useNews(({ changes }) => {
    if (changes.length === 0) return;
    setMoves((former) => {
      const next = new Map(former);
      for (const { cohort_id: id, change } of changes) {
        const { entered, left } = next.get(id) ?? { entered: 0, left: 0 };
        next.set(id, change === 'entered' ? { entered: entered + 1, left } : { entered, left: left + 1 });
      }
      return next;
    });
  });
  return moves;
}

const contains = (cohort: { name: string | null; description?: string }, text: string) =>
  `${cohort.name ?? ''}\n${cohort.description ?? ''}`.toLowerCase().includes(text.trim().toLowerCase());

function isShown(cohort: Cohort, kind: Kind): boolean {
  if (kind === 'dynamic') return !cohort.is_static;
  if (kind === 'static') return cohort.is_static;
  return kind !== 'failing' || cohort.errors_calculating > 0;
}

function List({ all, kind, search, moves, reload }: { all: Cohort[]; kind: Kind; search: string; moves: Moves; reload: () => void }) {
  const { hidden } = place.value;
  const order = (hidden.get('order') ?? 'created_at') as Order;
  const isReversed = hidden.get('reverse') === 'yes';
  const [deleting, setDeleting] = useState<Cohort>();
  const rows = useMemo(() => {
    const shown = all.filter((cohort) => isShown(cohort, kind) && contains(cohort, search));
    shown.sort((a, b) => compare(a, b, order) * (isReversed ? -1 : 1));
    return shown;
  }, [all, kind, search, order, isReversed]);
  if (all.length === 0) return <NoCohorts />;
  if (rows.length === 0) {
    return (
      <Empty title="No cohort matches">
        <p>{search ? `No name or description contains “${search}”.` : 'There is none of this kind.'}</p>
        <button type="button" onClick={() => setHidden({ search: '', show: '' })}>
          Show all
        </button>
      </Empty>
    );
  }
  const heading = (value: Order, words: string, className = '') => (
    <th class={className} aria-sort={order === value ? (isReversed === (value === 'name') ? 'descending' : 'ascending') : undefined}>
      <button type="button" class="sort" onClick={() => setHidden({ order: value, reverse: order === value && !isReversed ? 'yes' : '' })}>
        {words}
        {order === value && <Icon name={isReversed ? 'up' : 'down'} />}
      </button>
    </th>
  );
  return (
    <>
      <table class="cohorts">
        <thead>
          <tr>
            {heading('name', 'Name')}
            {heading('count', 'Members', 'number')}
            <th class="wide">Two weeks</th>
            <th class="wide number">Today</th>
            {heading('last_calculation', 'As of', 'wide')}
            {heading('created_at', 'Created', 'wide')}
            <th>
              <span class="visually-hidden">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((cohort) => (
            <Row key={cohort.id} cohort={cohort} moved={moves.get(cohort.id)} remove={() => setDeleting(cohort)} />
          ))}
        </tbody>
      </table>
      <p class="faint">{plural(rows.length, 'cohort')}</p>
      {deleting && (
        <DeleteDialog
          cohort={deleting}
          close={() => setDeleting(undefined)}
          done={() => {
            setDeleting(undefined);
            reload();
          }}
          restored={reload}
        />
      )}
    </>
  );
}

function compare(a: Cohort, b: Cohort, order: Order): number {
  if (order === 'name') return (a.name ?? '').localeCompare(b.name ?? '');
  if (order === 'count') return (b.count ?? -1) - (a.count ?? -1);
  return (b[order] ?? '').localeCompare(a[order] ?? '') || b.id - a.id;
}

function NoCohorts() {
  return (
    <Empty title="No cohorts yet">
      <p>A cohort is a set of persons: those who match criteria now, or a list from a file. Begin with a criterion, such as “did purchase in the last 30 days”.</p>
      <a class="button primary" href={href('/cohorts/new')}>
        New cohort
      </a>
    </Empty>
  );
}

export function describe(cohort: Cohort): string {
  if (cohort.description) return cohort.description;
  if (cohort.query) return `${cohort.is_static ? 'Filled once by the query' : 'Follows the query'}: ${queryText(cohort).replace(/\s+/g, ' ').trim()}`;
  try {
    const text = summary(read(cohort.filters as Json), names);
    return text || (cohort.is_static ? 'A list of persons' : 'No criteria yet: it has no members');
  } catch {
    return '';
  }
}

/** The state of a cohort in one word, with the reason. */
export function Status({ cohort }: { cohort: Cohort }) {
  if (cohort.deleted) return <span class="tag bad">deleted</span>;
  if (cohort.is_calculating) return <span class="tag busy">calculating</span>;
  if (cohort.errors_calculating > 0) {
    return (
      <span class="tag bad" title={cohort.last_error_message ?? undefined}>
        error
      </span>
    );
  }
  return cohort.is_static ? <span class="tag">list</span> : null;
}

function Row({ cohort, moved, remove }: { cohort: Cohort; moved: { entered: number; left: number } | undefined; remove: () => void }) {
  const name = cohort.name || 'Unnamed';
  return (
    <tr>
      <td class="name">
        <a href={href(`/cohorts/${cohort.id}`)}>{name}</a> <Status cohort={cohort} />
        <div class="description">{describe(cohort)}</div>
        {cohort.errors_calculating > 0 && <div class="description problem">{cohort.last_error_message}</div>}
      </td>
      <td class="number">
        <span key={cohort.count} class={moved ? 'flash' : ''}>
          {number(cohort.count)}
        </span>
        {moved && (
          <span class="moved" title="Since you opened the page">
            {moved.entered > 0 && `+${number(moved.entered)}`} {moved.left > 0 && `−${number(moved.left)}`}
          </span>
        )}
      </td>
      <Trend load={(signal) => trend(session.peek()?.project.id ?? 0, cohort.id, signal)} count={cohort.count} created={cohort.created_at} />
      <td class="wide">
        <Time value={cohort.is_static ? null : cohort.last_calculation} isRelative />
      </td>
      <td class="wide">
        <Time value={cohort.created_at} isDay />
      </td>
      <td class="row-actions">
        <RowMenu cohort={cohort} remove={remove} />
      </td>
    </tr>
  );
}

/** Puts a copy of the definition into the builder, unsaved. */
export function copyToBuilder(cohort: Cohort): void {
  const project = session.peek()?.project.id ?? 0;
  saveDraft(project, 'new', {
    name: `${cohort.name ?? 'Unnamed'} (copy)`,
    description: cohort.description,
    filters: cohort.filters,
  });
  go('/cohorts/new');
}

/** Copies the members into a list. */
export async function copyMembers(cohort: Cohort): Promise<void> {
  try {
    const copy = await cohorts.copyMembers(cohort.id);
    go(`/cohorts/${copy.id}`);
    notify(`“${copy.name ?? 'Unnamed'}” has the present members as a list.`);
  } catch (error) {
    const { title, detail } = explain(error);
    notify(`${title}. ${detail}`);
  }
}

function RowMenu({ cohort, remove }: { cohort: Cohort; remove: () => void }) {
  const hasCriteria = !cohort.is_static && cohort.query === null;
  return (
    <Menu isQuiet label={`Actions for ${cohort.name || 'Unnamed'}`} face={<Icon name="more" />}>
      {hasCriteria && <a href={href(`/cohorts/${cohort.id}/edit`)}>Edit criteria</a>}
      {!cohort.is_static && cohort.query !== null && <a href={href(`/queries/${cohort.id}`)}>Edit query</a>}
      {hasCriteria && (
        <button type="button" onClick={() => copyToBuilder(cohort)}>
          Copy criteria into a new cohort
        </button>
      )}
      {cohort.is_static ? (
        <a href={href('/lists/new', { into: String(cohort.id) })}>Upload a file</a>
      ) : (
        <button type="button" onClick={() => void copyMembers(cohort)}>
          Copy members into a list
        </button>
      )}
      <button type="button" class="danger" onClick={remove}>
        Delete …
      </button>
    </Menu>
  );
}

interface DeletedCohort {
  id: number;
  name: string;
  time: string;
  by: string;
}

/** Deleted cohorts, from the log of changes. */
async function deletedCohorts(signal: AbortSignal): Promise<DeletedCohort[]> {
  const page = await cohorts.allActivity(signal);
  const seen = new Set<string>();
  const deleted: DeletedCohort[] = [];
  for (const { item_id, activity, detail, created_at, user } of page.results) {
    if (!['created', 'deleted', 'restored'].includes(activity) || seen.has(item_id)) continue;
    seen.add(item_id);
    if (activity !== 'deleted') continue;
    deleted.push({ id: Number(item_id), name: detail.name ?? 'Unnamed', time: created_at, by: user.email ?? user.first_name });
  }
  return deleted;
}

function Deleted({ search, restored }: { search: string; restored: () => void }) {
  const loaded = useLoad(deletedCohorts, []);
  const [failure, setFailure] = useState<unknown>();
  if (loaded.data === undefined) return loaded.error === undefined ? <Loading what="the deleted cohorts" /> : <Failure error={loaded.error} retry={loaded.reload} />;
  const rows = loaded.data.filter((cohort) => contains(cohort, search));
  const restore = async (cohort: DeletedCohort) => {
    try {
      await cohorts.update(cohort.id, { deleted: false });
      notify(`“${cohort.name}” is back.`);
      loaded.reload();
      restored();
    } catch (error) {
      setFailure(error);
    }
  };
  if (rows.length === 0) {
    return (
      <Empty title="No deleted cohorts">
        <p>A deleted cohort is listed here until the operator purges it, and can be restored.</p>
      </Empty>
    );
  }
  return (
    <>
      {failure !== undefined && <Failure error={failure} />}
      <table class="cohorts">
        <thead>
          <tr>
            <th>Name</th>
            <th class="wide">Deleted by</th>
            <th>Deleted</th>
            <th>
              <span class="visually-hidden">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((cohort) => (
            <tr key={cohort.id}>
              <td class="name">
                <a href={href(`/cohorts/${cohort.id}`)}>{cohort.name}</a>
              </td>
              <td class="wide">{cohort.by}</td>
              <td>
                <Time value={cohort.time} isRelative />
              </td>
              <td class="row-actions">
                <button type="button" onClick={() => void restore(cohort)}>
                  Restore
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
