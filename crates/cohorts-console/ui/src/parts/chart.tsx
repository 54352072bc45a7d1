// Charts of numbers over time. The canvas is a picture for readers of the page; the screen gives the numbers as a table.

import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { number } from './format';

export interface Series {
  words: string;
  /** The name of a colour of the theme. */
  colour: string;
  values: (number | null)[];
  isBar?: boolean;
}

interface Properties {
  label: string;
  /** Seconds since 1970. */
  times: number[];
  series: Series[];
  height: number;
  /** Charts with the same name show the same time under the pointer. */
  group: string;
  /** The largest number of the group. Its charts have the same room for numbers, so that their times are aligned. */
  most: number;
  pointed?: (at: number | undefined) => void;
}

const dark = matchMedia('(prefers-color-scheme: dark)');
const FONT = '12px system-ui, sans-serif';
const DAY = 86_400;
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const date = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const month = new Intl.DateTimeFormat('en-GB', { month: 'short', year: 'numeric' });
/** Room for each letter of the numbers, and around them. */
const [LETTER, MARGIN] = [8, 16];

/** Changes with the theme of the system. */
function useTheme(): boolean {
  const [isDark, setDark] = useState(dark.matches);
  useEffect(() => {
    const change = () => setDark(dark.matches);
    dark.addEventListener('change', change);
    return () => dark.removeEventListener('change', change);
  }, []);
  return isDark;
}

export function Chart({ label, times, series, height, group, most, pointed }: Properties) {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef(pointed);
  latest.current = pointed;
  const isDark = useTheme();
  const names = series.map(({ words }) => words).join();
  const room = number(most).length * LETTER + MARGIN;
  const chart = useRef<uPlot | undefined>(undefined);
  const data = (): uPlot.AlignedData => [times, ...series.map(({ values }) => values)];
  useEffect(() => {
    if (!box.current) return undefined;
    const plot = new uPlot(options(box.current, series, height, group, room, (at) => latest.current?.(at)), data(), box.current);
    chart.current = plot;
    const observer = new ResizeObserver(([entry]) => entry && plot.setSize({ width: Math.floor(entry.contentRect.width), height }));
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      plot.destroy();
      chart.current = undefined;
    };
  }, [isDark, names, height, group, room]);
  useEffect(() => chart.current?.setData(data()), [times, series]);
  return <div class="chart" ref={box} role="img" aria-label={label} />;
}

function options(
  box: HTMLElement,
  series: Series[],
  height: number,
  group: string,
  room: number,
  pointed: (at: number | undefined) => void,
): uPlot.Options {
  const style = getComputedStyle(box);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  const axis: uPlot.Axis = { stroke: colour('muted'), font: FONT, grid: { stroke: colour('line'), width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(Math.floor(box.clientWidth), 100),
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: group }, points: { size: 7 } },
    scales: {
      x: { range: (plot, least, most) => [least - halfStep(plot), most + halfStep(plot)] },
      y: { range: (_, least, most) => range(least, most, series.some(({ isBar }) => isBar)) },
    },
    axes: [
      { ...axis, size: 32, gap: 10, space: 72, values: (_, times, __, ___, step) => times.map((time) => moment(time, step)) },
      { ...axis, size: room, values: (_, values) => values.map((value) => (Number.isInteger(value) ? withMinus(value) : '')) },
    ],
    series: [{}, ...series.map((one) => line(one, colour(one.colour), colour(`${one.colour}-soft`)))],
    hooks: { setCursor: [({ cursor }) => pointed(cursor.idx ?? undefined)] },
  };
}

function line({ words, isBar }: Series, stroke: string, fill: string): uPlot.Series {
  const bars = isBar && uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.7, 24] }), fill: stroke, points: { show: false } } : { points: { fill: stroke, size: 5 } };
  return { label: words, stroke, width: isBar ? 0 : 2, ...(fill && !isBar ? { fill } : {}), ...bars };
}

/** Half of the time between two points, so that the outer bars are whole. */
function halfStep({ data: [times] }: uPlot): number {
  const [first, second] = times;
  return first === undefined || second === undefined ? DAY / 2 : (second - first) / 2;
}

function moment(time: number, step: number): string {
  const format = step < DAY ? clock : step < 28 * DAY ? date : month;
  return format.format(time * 1_000);
}

/** Whole steps, with room above; bars begin at zero. */
function range(least: number | null, most: number | null, hasBars: boolean): [number, number] {
  const [low, high] = [least ?? 0, most ?? 1];
  if (hasBars) return [Math.min(low, 0), Math.max(high, 1)];
  const room = Math.max((high - low) * 0.15, high * 0.02, 1);
  return [Math.max(Math.floor(low - room), 0), Math.ceil(high + room)];
}

const withMinus = (value: number) => number(value).replace('-', '−');

export const signed = (value: number | null) => (value === null ? '–' : value === 0 ? '0' : value > 0 ? `+${number(value)}` : withMinus(value));
