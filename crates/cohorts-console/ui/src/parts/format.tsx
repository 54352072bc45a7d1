// Numbers and times for a reader.

import { session } from '../state/session';

const numbers = new Intl.NumberFormat('en');
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const dates = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
const exact = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const days = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

export const number = (value: number | null | undefined) => (value === null || value === undefined ? '–' : numbers.format(value));
export const short = (value: number) => compact.format(value);
export const bytes = (value: number) => (value < 1_000 ? plural(value, 'byte') : `${compact.format(value)}B`);
export const persons = (value: number) => (value === 1 ? '1 person' : `${numbers.format(value)} persons`);
export const plural = (value: number, word: string) => `${numbers.format(value)} ${word}${value === 1 ? '' : 's'}`;

export function percent(part: number, whole: number): string {
  if (whole === 0) return '';
  const share = (part / whole) * 100;
  return share > 0 && share < 0.1 ? '< 0.1 %' : `${share < 10 ? share.toFixed(1) : Math.round(share)} %`;
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
];

export function ago(time: string, now = Date.now()): string {
  const seconds = (new Date(time).getTime() - now) / 1_000;
  const step = STEPS.find(([, length]) => Math.abs(seconds) >= length);
  if (!step) return seconds > 0 ? 'in a moment' : 'just now';
  return relative.format(Math.trunc(seconds / step[1]), step[0]);
}

/** Whether a time is on this day in the zone of the project, as the service counts days. */
export function isToday(time: string, now = new Date()): boolean {
  const zone = session.value?.project.timezone ?? 'UTC';
  const day = (value: Date) => value.toLocaleDateString('en', { timeZone: zone });
  try {
    return day(new Date(time)) === day(now);
  } catch {
    // The browser does not know the zone.
    return false;
  }
}

interface TimeProps {
  value: string | null | undefined;
  isRelative?: boolean;
  isDay?: boolean;
  hasSeconds?: boolean;
}

/** A time in the zone of the reader; the zone of the project on hover. */
export function Time({ value, isRelative = false, isDay = false, hasSeconds = false }: TimeProps) {
  if (!value) return <span class="faint">–</span>;
  const time = new Date(value);
  if (Number.isNaN(time.getTime())) return <span>{value}</span>;
  const local = (hasSeconds ? exact : dates).format(time);
  const text = isRelative ? ago(value) : isDay ? days.format(time) : local;
  return (
    <time dateTime={value} title={`${local}\n${inProjectZone(time)}`}>
      {text}
    </time>
  );
}

function inProjectZone(time: Date): string {
  const zone = session.value?.project.timezone ?? 'UTC';
  try {
    const text = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long', timeZone: zone }).format(time);
    return `${text}, the zone of the project`;
  } catch {
    return time.toISOString();
  }
}
