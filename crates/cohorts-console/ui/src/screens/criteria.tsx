// What makes a person a member of the cohort, in words, with a count for each criterion.

import { useMemo } from 'preact/hooks';
import { cohorts } from '../api/resources';
import type { Cohort } from '../api/types';
import { read, write } from '../model/filter';
import type { Group, Json } from '../model/filter';
import { CopyButton } from '../parts/field';
import { Time, number, plural } from '../parts/format';
import { useLoad } from '../parts/load';
import { Empty, Failure, Show } from '../parts/state';
import { CriteriaTree } from '../parts/sentence';
import { names } from '../state/catalogue';
import { href } from '../state/router';

export function CriteriaTab({ cohort }: { cohort: Cohort }) {
  if (cohort.query) return <QuerySource cohort={cohort} />;
  if (cohort.is_static) return <Uploads cohort={cohort} />;
  return <Filter cohort={cohort} />;
}

function tree(filters: Json): Group | undefined {
  try {
    return read(filters);
  } catch {
    return undefined;
  }
}

function Filter({ cohort }: { cohort: Cohort }) {
  const filters = cohort.filters as Json;
  const root = useMemo(() => tree(filters), [JSON.stringify(filters)]);
  const json = JSON.stringify(filters, null, 2);
  const preview = useLoad(
    async (signal) => (root && root.nodes.length > 0 ? cohorts.preview({ filters: write(root).filters }, 0, signal) : undefined),
    [JSON.stringify(filters)],
  );
  if (!root) {
    return (
      <>
        <p>This page cannot show these criteria in words.</p>
        <pre class="code">{json}</pre>
      </>
    );
  }
  if (root.nodes.length === 0) {
    return (
      <Empty title="No criteria yet">
        <p>A cohort without criteria has no members.</p>
        <a class="button primary" href={href(`/cohorts/${cohort.id}/edit`)}>
          Add criteria
        </a>
      </Empty>
    );
  }
  const { paths } = write(root);
  const counts = new Map<number, number>();
  for (const { path, count } of preview.data?.criteria ?? []) {
    const id = paths.get(path);
    if (id !== undefined) counts.set(id, count);
  }
  return (
    <section>
      <div class="panel">
        <div class="panel-head">
          <h2>Persons who match</h2>
          <span class="count" role="status">
            {preview.data ? number(preview.data.count) : preview.isLoading ? '…' : ''}
          </span>
        </div>
        <CriteriaTree group={root} names={names} counts={counts} />
      </div>
      {preview.error !== undefined && <Failure error={preview.error} retry={preview.reload} />}
      <p class="faint">Counted now. The number at each criterion is of that criterion alone.</p>
      <details class="json">
        <summary>As JSON</summary>
        <CopyButton text={() => json} />
        <pre class="code">{json}</pre>
      </details>
    </section>
  );
}

/** The text of the query of a cohort, or its JSON if it has none. */
export function queryText({ query }: Cohort): string {
  const { query: text } = (query ?? {}) as { query?: unknown };
  return typeof text === 'string' ? text : JSON.stringify(query, null, 2);
}

function QuerySource({ cohort }: { cohort: Cohort }) {
  const text = queryText(cohort);
  return (
    <section>
      <p>{cohort.is_static ? 'This query filled the list once, when it was saved.' : 'The members are always the persons that this query selects.'}</p>
      <CopyButton text={() => text} />
      <pre class="code">{text}</pre>
    </section>
  );
}

function Uploads({ cohort }: { cohort: Cohort }) {
  const loaded = useLoad((signal) => cohorts.uploads(cohort.id, signal), [cohort.id]);
  return (
    <section>
      <div class="toolbar">
        <p>The members of a list are added from files, and by hand.</p>
        <span class="grow" />
        <a class="button" href={href('/lists/new', { into: String(cohort.id) })}>
          Upload a file
        </a>
      </div>
      <Show loaded={loaded} what="the uploads">
        {(uploads) =>
          uploads.length === 0 ? (
            <Empty title="No uploads">
              <p>No file was uploaded to this list.</p>
            </Empty>
          ) : (
            <table class="uploads">
              <thead>
                <tr>
                  <th>Uploaded</th>
                  <th class="wide">By</th>
                  <th class="number">Rows</th>
                  <th class="number">Added</th>
                  <th class="number wide">Members before</th>
                  <th class="number">Unknown</th>
                  <th class="number">Bad</th>
                  <th class="number wide">Removed</th>
                </tr>
              </thead>
              <tbody>
                {uploads.map((upload) => (
                  <tr key={upload.id}>
                    <td>
                      <Time value={upload.created_at} />
                    </td>
                    <td class="wide">{upload.created_by?.email ?? '–'}</td>
                    <td class="number">{number(upload.rows)}</td>
                    <td class="number">{number(upload.added)}</td>
                    <td class="number wide">{number(upload.already_members)}</td>
                    <td class="number">{number(upload.unknown)}</td>
                    <td class="number">{number(upload.bad_rows)}</td>
                    <td class="number wide">{number(upload.removed)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Show>
      {loaded.data && loaded.data.length > 0 && <p class="faint">{plural(loaded.data.length, 'upload')}</p>}
    </section>
  );
}
