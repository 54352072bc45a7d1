// The size of a cohort over time, with who entered and left.

import { useMemo, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import type { Cohort, CohortSize, CohortSizes } from '../api/types';
import { Chart, signed } from '../parts/chart';
import type { Series } from '../parts/chart';
import { Time, number, plural } from '../parts/format';
import { useLoad, usePolling } from '../parts/load';
import { Empty, Show } from '../parts/state';
import { place, setHidden } from '../state/router';

const INTERVALS: [string, string][] = [
  ['minute', 'Minutes'],
  ['hour', 'Hours'],
  ['day', 'Days'],
  ['week', 'Weeks'],
  ['month', 'Months'],
];
/** How often the intervals are loaded again; the newest number moves at once. */
const REFRESH = 15_000;
const HEIGHT = 240;
const BARS = 120;

export function SizesTab({ cohort }: { cohort: Cohort }) {
  const interval = INTERVALS.find(([value]) => value === place.value.hidden.get('interval'))?.[0] ?? 'day';
  const loaded = useLoad((signal) => cohorts.sizes(cohort.id, interval, signal), [cohort.id, cohort.version, interval]);
  usePolling(loaded.reload, REFRESH, loaded.data !== undefined);
  return (
    <section>
      <div class="toolbar">
        <div class="segments" role="group" aria-label="Interval">
          {INTERVALS.map(([value, words]) => (
            <button key={value} type="button" aria-pressed={value === interval} onClick={() => setHidden({ interval: value === 'day' ? '' : value })}>
              {words}
            </button>
          ))}
        </div>
      </div>
      <Show loaded={loaded} what="the sizes">
        {(sizes) => <Sizes key={interval} sizes={sizes} count={cohort.count} interval={interval} />}
      </Show>
    </section>
  );
}

/** The last interval has not ended: its size is that of now. */
function withCount(rows: CohortSize[], count: number | null): CohortSize[] {
  const last = rows.at(-1);
  return last && last.count !== null && count !== null ? [...rows.slice(0, -1), { ...last, count }] : rows;
}

function Sizes({ sizes, count: current, interval }: { sizes: CohortSizes; count: number | null; interval: string }) {
  const rows = useMemo(() => withCount(sizes.results, current), [sizes, current]);
  const [pointed, setPointed] = useState<number>();
  const { times, size, moves } = useMemo(() => series(rows), [rows]);
  if (!rows.some(({ count }) => count !== null)) {
    return (
      <Empty title="No record yet">
        <p>The service records the size with each change of the members. The first change appears here.</p>
      </Empty>
    );
  }
  const shown = rows[pointed ?? rows.length - 1] ?? rows.at(-1);
  const most = Math.max(...rows.flatMap(({ count, entered, left }) => [count ?? 0, entered ?? 0, left ?? 0]));
  const hasMoves = rows.some(({ entered, left }) => entered !== null || left !== null);
  return (
    <>
      <Readout row={shown} interval={interval} />
      <Chart label={summary(rows)} times={times} series={size} height={HEIGHT} group="sizes" most={most} pointed={setPointed} />
      {hasMoves && (
        <Chart
          label="Entered and left; the numbers are in the table below."
          times={times}
          series={moves}
          height={BARS}
          group="sizes"
          most={most}
          pointed={setPointed}
        />
      )}
      <Origin sizes={sizes} />
      <details>
        <summary>As a table</summary>
        <Table rows={rows} interval={interval} />
      </details>
    </>
  );
}

function series(rows: CohortSize[]): { times: number[]; size: Series[]; moves: Series[] } {
  return {
    times: rows.map(({ at }) => new Date(at).getTime() / 1_000),
    size: [{ words: 'Size', colour: 'accent', values: rows.map(({ count }) => count) }],
    moves: [
      { words: 'Entered', colour: 'good', values: rows.map(({ entered }) => entered), isBar: true },
      { words: 'Left', colour: 'bad', values: rows.map(({ left }) => (left === null ? null : -left)), isBar: true },
    ],
  };
}

function summary(rows: CohortSize[]): string {
  const known = rows.flatMap(({ count }) => (count === null ? [] : [count]));
  const [first, last] = [known[0] ?? 0, known.at(-1) ?? 0];
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return `Size over time: from ${number(first)} to ${plural(last, 'member')}, at least ${number(least)} and at most ${number(most)}. The numbers are in the table below.`;
}

const isShort = (interval: string) => interval === 'minute' || interval === 'hour';

/** The numbers under the pointer, otherwise the newest ones. */
function Readout({ row, interval }: { row: CohortSize | undefined; interval: string }) {
  if (!row) return null;
  return (
    <dl class="facts readout">
      <div>
        <dt>From</dt>
        <dd>
          <Time value={row.at} isDay={!isShort(interval)} />
        </dd>
      </div>
      <div>
        <dt>Size</dt>
        <dd class="tabular">{number(row.count)}</dd>
      </div>
      <div>
        <dt>Entered</dt>
        <dd class={row.entered ? 'tabular entered' : 'tabular'}>{signed(row.entered)}</dd>
      </div>
      <div>
        <dt>Left</dt>
        <dd class={row.left ? 'tabular left' : 'tabular'}>{signed(row.left === null ? null : -row.left)}</dd>
      </div>
    </dl>
  );
}

/** Which sizes are not recorded. */
function Origin({ sizes: { evaluated_before: before, uses_current_properties: usesCurrent } }: { sizes: CohortSizes }) {
  if (before === null) return null;
  return (
    <p class="faint">
      Sizes before <Time value={before} /> are not recorded: the service evaluates the criteria of now at that time.
      {usesCurrent && ' They use the properties that persons have now, so the sizes at that time can have been different.'}
    </p>
  );
}

function Table({ rows, interval }: { rows: CohortSize[]; interval: string }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Sizes as a table">
      <table>
        <thead>
          <tr>
            <th>From</th>
            <th class="number">Size</th>
            <th class="number">Entered</th>
            <th class="number">Left</th>
          </tr>
        </thead>
        <tbody>
          {rows.toReversed().map(({ at, count, entered, left }) => (
            <tr key={at}>
              <td>
                <Time value={at} isDay={!isShort(interval)} />
              </td>
              <td class="number">{number(count)}</td>
              <td class="number">{number(entered)}</td>
              <td class="number">{number(left)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
