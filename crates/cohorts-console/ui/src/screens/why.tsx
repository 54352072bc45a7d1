// Why a person is in a cohort or not: each criterion with what was found, and when time alone changes the membership.

import { cohorts } from '../api/resources';
import type { Cohort, CohortExplanation, CriterionExplanation } from '../api/types';
import { criteria } from '../model/edit';
import { read, write } from '../model/filter';
import type { Criterion, Json } from '../model/filter';
import { eventsWords, queryWords, valueWords } from '../model/finding';
import { sentence } from '../model/sentence';
import { Time } from '../parts/format';
import { Icon } from '../parts/icons';
import { useLoad } from '../parts/load';
import { Sentence } from '../parts/sentence';
import { Show } from '../parts/state';
import { cohortName, names } from '../state/catalogue';
import { queryText } from './criteria';
import { href } from '../state/router';

interface Loaded {
  cohort: Cohort;
  explanation: CohortExplanation;
}

export function Why({ id, person }: { id: number; person: string }) {
  const loaded = useLoad<Loaded>(
    async (signal) => {
      const [cohort, explanation] = await Promise.all([cohorts.get(id, signal), cohorts.explain(id, person, signal)]);
      return { cohort, explanation };
    },
    [id, person],
  );
  return (
    <div class="why">
      <Show loaded={loaded} what="the explanation">
        {({ cohort, explanation }) => <Explanation cohort={cohort} explanation={explanation} />}
      </Show>
    </div>
  );
}

function Explanation({ cohort, explanation }: Loaded) {
  const { member, since, published, changes_at: change, criteria: found, found: addition } = explanation;
  return (
    <>
      <p>
        <b>{member ? 'In the cohort' : 'Not in the cohort'}</b>
        {member && since && (
          <>
            {' '}
            since <Time value={since} />
          </>
        )}
        {published === false && '. The stored members do not show it yet.'}
      </p>
      {addition && (
        <p>
          Added on <Time value={addition.added_at} /> by {addition.cause === 'manual' ? 'hand' : `${addition.cause}`}.
        </p>
      )}
      {change && (
        <p class="faint">
          {change.member ? 'Enters' : 'Leaves'} on <Time value={change.at} /> if nothing else happens.
        </p>
      )}
      {cohort.is_static && !member && found.length === 0 && <p class="faint">The cohort is a list, and this person is not on it.</p>}
      <Findings found={found} sentences={byPath(cohort)} />
      {cohort.query && <pre class="code inline" tabIndex={0}>{queryText(cohort)}</pre>}
    </>
  );
}

/** The criteria of a filter by their paths. */
function byPath(cohort: Cohort): Map<string, Criterion> {
  try {
    const root = read(cohort.filters as Json);
    const byId = new Map([...criteria(root)].map((criterion) => [criterion.id, criterion]));
    const pairs = [...write(root).paths].flatMap(([path, id]): [string, Criterion][] => {
      const criterion = byId.get(id);
      return criterion ? [[path, criterion]] : [];
    });
    return new Map(pairs);
  } catch {
    return new Map();
  }
}

function Findings({ found, sentences }: { found: CriterionExplanation[]; sentences: Map<string, Criterion> }) {
  if (found.length === 0) return null;
  return (
    <ul class="findings">
      {found.map((finding) => {
        const criterion = sentences.get(finding.path);
        return (
          <li key={finding.path} class={finding.holds ? 'holds' : 'fails'}>
            <Icon name={finding.holds ? 'check' : 'close'} />
            <div>
              <span class="visually-hidden">{finding.holds ? 'Holds: ' : 'Does not hold: '}</span>
              {criterion ? <Sentence parts={sentence(criterion, names)} /> : (queryWords(finding.path, finding.holds) ?? finding.path)}
              <Evidence finding={finding} criterion={criterion} />
            </div>
          </li>
        );
      })}
    </ul>
  );
}

function Evidence({ finding, criterion }: { finding: CriterionExplanation; criterion: Criterion | undefined }) {
  const { value, count, last_at: last, events = [], cohort_id: other, member } = finding.found;
  if (other !== undefined) {
    return (
      <small>
        found: {member ? 'in' : 'not in'} <a href={href(`/cohorts/${other}`)}>{cohortName(other) ?? `cohort ${other}`}</a>
      </small>
    );
  }
  if (count !== undefined) {
    return (
      <>
        <small>
          {eventsWords(criterion, count, names)}
          {last && (
            <>
              , the last on <Time value={last} />
            </>
          )}
        </small>
        {events.length > 1 && (
          <details>
            <summary>Events</summary>
            <ul>
              {events.map(({ uuid, event, timestamp }) => (
                <li key={uuid}>
                  <Time value={timestamp} /> {event}
                </li>
              ))}
            </ul>
          </details>
        )}
      </>
    );
  }
  if (!criterion && (value === null || value === undefined)) return null;
  return <small>{valueWords(criterion, value as Json | undefined)}</small>;
}
