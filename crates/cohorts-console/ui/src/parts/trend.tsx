// A small line of numbers over time, and who entered and left today. It asks for the numbers when it becomes visible.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { CohortSize } from '../api/types';
import { isAbort } from '../api/error';
import { isToday, number, plural } from './format';

const [WIDTH, HEIGHT, INSET] = [96, 24, 2];

type Load = (signal: AbortSignal) => Promise<CohortSize[]>;

interface Properties {
  load: Load;
  /** The size of now. The numbers are loaded again when it changes. */
  count: number | null;
  created: string | null;
}

/** Cells of a table: the line and today's changes. On its first day, all members of a cohort entered, so that is "new". */
export function Trend({ load, count, created }: Properties) {
  const cell = useRef<HTMLTableCellElement>(null);
  const [sizes, setSizes] = useState<CohortSize[]>();
  const isVisible = useVisible(cell);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    if (!isVisible) return undefined;
    const controller = new AbortController();
    // Without the numbers the row is complete, so an error is not shown here.
    latest.current(controller.signal).then(setSizes, (error: unknown) => isAbort(error) || setSizes([]));
    return () => controller.abort();
  }, [isVisible, count]);
  const known = (sizes ?? []).flatMap(({ count: size }) => (size === null ? [] : [size]));
  if (count !== null && known.length > 0) known[known.length - 1] = count;
  const today = sizes?.at(-1);
  return (
    <>
      <td class="trend wide" ref={cell}>
        {known.length > 1 && <Line values={known} />}
      </td>
      <td class="today wide">
        {created !== null && isToday(created) ? (
          <span class="faint">new</span>
        ) : (
          <>
            {today?.entered ? <span class="good">+{number(today.entered)}</span> : null} {today?.left ? <span class="bad">−{number(today.left)}</span> : null}
          </>
        )}
      </td>
    </>
  );
}

function Line({ values }: { values: number[] }) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const x = (at: number) => INSET + (at * (WIDTH - 2 * INSET)) / (values.length - 1);
  const y = (value: number) => (most === least ? HEIGHT / 2 : HEIGHT - INSET - ((value - least) * (HEIGHT - 2 * INSET)) / (most - least));
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
  const label = `Size in ${values.length} days: from ${number(values[0])} to ${plural(values.at(-1) ?? 0, 'member')}`;
  return (
    <svg class="line" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} role="img" aria-label={label}>
      <title>{label}</title>
      <polyline points={points} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" />
    </svg>
  );
}

/** Whether the element is in the window. */
function useVisible(element: { current: Element | null }): boolean {
  const [isVisible, setVisible] = useState(false);
  useEffect(() => {
    if (!element.current) return undefined;
    const observer = new IntersectionObserver((entries) => setVisible(entries.at(-1)?.isIntersecting ?? false));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return isVisible;
}
