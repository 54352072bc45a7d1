// The cohorts that refer to a cohort, and those that it refers to.

import { cohorts } from '../api/resources';
import type { Cohort } from '../api/types';
import { criteria } from '../model/edit';
import { read } from '../model/filter';
import type { Json } from '../model/filter';
import { useLoad } from '../parts/load';
import { Empty, Show } from '../parts/state';
import { cohortName } from '../state/catalogue';
import { href } from '../state/router';

function references(filters: Json): number[] {
  try {
    const ids = [...criteria(read(filters))].flatMap(({ test }) => (test.kind === 'cohort' && test.cohort !== null ? [test.cohort] : []));
    return [...new Set(ids)];
  } catch {
    return [];
  }
}

export function UsesTab({ cohort }: { cohort: Cohort }) {
  const loaded = useLoad((signal) => cohorts.uses(cohort.id, signal), [cohort.id]);
  const used = references(cohort.filters as Json);
  return (
    <section class="columns">
      <div>
        <h2>Cohorts that use this one</h2>
        <Show loaded={loaded} what="the uses">
          {({ cohorts: uses }) =>
            uses.total === 0 ? (
              <Empty title="No cohort uses it">
                <p>A criterion “is in {cohort.name || 'this cohort'}” of another cohort would be listed here.</p>
              </Empty>
            ) : (
              <ul class="links">
                {uses.results.map(({ id, name }) => (
                  <li key={id}>
                    <a href={href(`/cohorts/${id}`)}>{name}</a>
                  </li>
                ))}
                {uses.has_more && <li class="faint">and {uses.total - uses.results.length} more</li>}
              </ul>
            )
          }
        </Show>
      </div>
      {used.length > 0 && (
        <div>
          <h2>Cohorts that this one uses</h2>
          <ul class="links">
            {used.map((id) => (
              <li key={id}>
                <a href={href(`/cohorts/${id}`)}>{cohortName(id) ?? `Cohort ${id}`}</a>
              </li>
            ))}
          </ul>
        </div>
      )}
    </section>
  );
}
