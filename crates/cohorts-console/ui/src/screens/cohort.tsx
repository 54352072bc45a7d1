// One cohort: its members, its criteria in words, what uses it, and what happened to it.

import { useRef, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { ApiError } from '../api/error';
import type { Cohort } from '../api/types';
import { Tabs } from '../parts/field';
import { Time, number, plural } from '../parts/format';
import { Icon } from '../parts/icons';
import { Announcements, LiveMark, useChanged } from '../parts/live';
import { useLoad, usePolling } from '../parts/load';
import { Empty, Show, useTitle } from '../parts/state';
import { go, href } from '../state/router';
import { ActivityTab } from './activity';
import { Status, copyMembers, copyToBuilder } from './cohorts';
import { CriteriaTab } from './criteria';
import { DeleteDialog, restore } from './delete';
import { EditDetails } from './details';
import { MembersTab } from './members';
import { SizesTab } from './sizes';
import { UsesTab } from './uses';

const REFRESH = 2_000;
const SLOW_REFRESH = 20_000;

export function CohortScreen({ id, tab }: { id: number; tab: string }) {
  const loaded = useLoad((signal) => cohorts.get(id, signal), [id]);
  useTitle(loaded.data ? loaded.data.name || 'Unnamed' : 'Cohort');
  usePolling(loaded.reload, loaded.data?.is_calculating ? REFRESH : SLOW_REFRESH, true);
  const [moves, setMoves] = useState(0);
  useChanged(async (changed) => {
    if (changed && !changed.has(id)) return;
    loaded.set(await cohorts.get(id));
    setMoves((value) => value + 1);
  });
  if (loaded.error instanceof ApiError && loaded.error.status === 404) {
    return (
      <Empty isPage title="There is no such cohort">
        <p>It was deleted for good, or belongs to another project.</p>
        <a class="button" href={href('/cohorts')}>
          All cohorts
        </a>
      </Empty>
    );
  }
  return (
    <div class="screen">
      {loaded.data === undefined && <h1 class="visually-hidden">Cohort</h1>}
      <Show loaded={loaded} what="the cohort">
        {(cohort) => (
          <>
            <Head cohort={cohort} set={loaded.set} reload={loaded.reload} />
            <Announcements cohort={id} />
            <Tabs
              label="Parts of the cohort"
              current={tab}
              tabs={[
                { id: 'members', words: 'Members', path: `/cohorts/${id}` },
                { id: 'size', words: 'Size over time', path: `/cohorts/${id}/size` },
                { id: 'criteria', words: cohort.query ? 'Query' : cohort.is_static ? 'Source' : 'Criteria', path: `/cohorts/${id}/criteria` },
                { id: 'activity', words: 'Activity', path: `/cohorts/${id}/activity` },
                { id: 'uses', words: 'Used by', path: `/cohorts/${id}/uses` },
              ]}
            />
            {tab === 'members' && <MembersTab cohort={cohort} moves={moves} reload={loaded.reload} />}
            {tab === 'size' && <SizesTab cohort={cohort} />}
            {tab === 'criteria' && <CriteriaTab cohort={cohort} />}
            {tab === 'activity' && <ActivityTab cohort={cohort} reload={loaded.reload} />}
            {tab === 'uses' && <UsesTab cohort={cohort} />}
            {!['members', 'size', 'criteria', 'activity', 'uses'].includes(tab) && <Empty title="There is no such page" />}
          </>
        )}
      </Show>
    </div>
  );
}

interface HeadProperties {
  cohort: Cohort;
  set: (cohort: Cohort) => void;
  reload: () => void;
}

function Head({ cohort, set, reload }: HeadProperties) {
  const [isEditing, setEditing] = useState(false);
  const [isDeleting, setDeleting] = useState(false);
  const name = cohort.name || 'Unnamed';
  const isByQuery = !cohort.is_static && cohort.query !== null;
  const hasCriteria = !cohort.is_static && !isByQuery;
  return (
    <>
      <nav class="crumbs" aria-label="Path">
        <a href={href('/cohorts')}>
          <Icon name="back" />
          Cohorts
        </a>
      </nav>
      <header class="title">
        <div class="heading">
          <h1>
            {name} <Status cohort={cohort} />
          </h1>
          {cohort.description && <p class="lead">{cohort.description}</p>}
        </div>
        <div class="actions">
          {cohort.deleted ? (
            <button type="button" class="primary" onClick={() => void restore(cohort.id, name, reload)}>
              Restore
            </button>
          ) : (
            <>
              {hasCriteria && (
                <a class="button primary" href={href(`/cohorts/${cohort.id}/edit`)}>
                  Edit criteria
                </a>
              )}
              {isByQuery && (
                <a class="button primary" href={href(`/queries/${cohort.id}`)}>
                  Edit query
                </a>
              )}
              <button type="button" onClick={() => setEditing(true)}>
                Rename
              </button>
              {hasCriteria && (
                <button type="button" onClick={() => copyToBuilder(cohort)}>
                  Copy
                </button>
              )}
              {!cohort.is_static && (
                <button type="button" onClick={() => void copyMembers(cohort)}>
                  Freeze as a list
                </button>
              )}
              <button type="button" class="danger" onClick={() => setDeleting(true)}>
                Delete …
              </button>
            </>
          )}
        </div>
      </header>
      <Facts cohort={cohort} />
      {isEditing && <EditDetails cohort={cohort} close={() => setEditing(false)} saved={set} />}
      {isDeleting && (
        <DeleteDialog cohort={cohort} close={() => setDeleting(false)} done={() => go('/cohorts')} restored={() => go(`/cohorts/${cohort.id}`)} />
      )}
    </>
  );
}

function kindOf({ is_static: isStatic, query }: Cohort): string {
  if (isStatic) return query ? 'List, filled by a query' : 'List';
  return query ? 'Dynamic, by a query' : 'Dynamic';
}

function Facts({ cohort }: { cohort: Cohort }) {
  const { count, is_static: isStatic, last_error_message: message, errors_calculating: errors } = cohort;
  const first = useRef(count);
  return (
    <>
      <dl class="facts">
        <div>
          <dt>
            Size <LiveMark />
          </dt>
          <dd class="size" title={count === null ? '' : plural(count, 'member')}>
            <span key={count} class={count === first.current ? '' : 'flash'} data-testid="size">
              {number(count)}
            </span>
          </dd>
        </div>
        <div>
          <dt>Kind</dt>
          <dd>{kindOf(cohort)}</dd>
        </div>
        {!isStatic && (
          <div>
            <dt>Members as of</dt>
            <dd>{cohort.last_calculation ? <Time value={cohort.last_calculation} isRelative /> : 'not calculated yet'}</dd>
          </div>
        )}
        {!isStatic && cohort.next_calculation && (
          <div>
            <dt>{errors > 0 ? 'Next attempt' : 'Next check'}</dt>
            <dd>
              <Time value={cohort.next_calculation} isRelative />
            </dd>
          </div>
        )}
        <div>
          <dt>Created</dt>
          <dd>
            <Time value={cohort.created_at} isDay />
            {cohort.created_by && <span class="faint"> by {cohort.created_by.first_name || cohort.created_by.email}</span>}
          </dd>
        </div>
      </dl>
      {errors > 0 && (
        <div class="failure" role="status">
          <Icon name="warning" />
          <div>
            <strong>{errors === 1 ? 'The last calculation failed' : `The last ${errors} calculations failed`}</strong>
            <p>{message}. The members stay those of the last successful calculation.</p>
            <a class="button" href={href(cohort.query ? `/queries/${cohort.id}` : `/cohorts/${cohort.id}/edit`)}>
              Correct the {cohort.query ? 'query' : 'criteria'}
            </a>
          </div>
        </div>
      )}
    </>
  );
}

