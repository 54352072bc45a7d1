// Pieces for members that enter and leave while a screen is open: the mark of the stream, and calls that follow changes.

import { useEffect, useRef, useState } from 'preact/hooks';
import type { CohortChange } from '../api/types';
import { listen, live } from '../state/live';
import type { News } from '../state/live';

const PAUSE = 1_000;
const ANNOUNCEMENT = 2_000;

/** Whether numbers on the screen move by themselves. */
export function LiveMark() {
  const state = live.value;
  if (state.kind === 'live') {
    return (
      <span class="live on" title="Numbers move as members enter and leave.">
        Live
      </span>
    );
  }
  const why = state.kind === 'connecting' ? 'Connecting to the service …' : state.why;
  return (
    <span class="live" title={`${why} Numbers are refreshed from time to time.`}>
      {state.kind === 'connecting' ? 'Connecting …' : 'Not live'}
      <span class="visually-hidden">: {why}</span>
    </span>
  );
}

export function useNews(act: (news: News) => void): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => listen((news) => latest.current(news)), []);
}

/**
 * Calls `act` with the cohorts that changed, `undefined` for all: one call at a time, with a pause between two. Changes
 * that arrive meanwhile are part of the next call.
 */
export function useChanged(act: (cohorts: Set<number> | undefined) => Promise<void>): void {
  const latest = useRef(act);
  latest.current = act;
  const pending = useRef<Set<number> | 'all'>(new Set());
  const isBusy = useRef(false);
  const hasLeft = useRef(false);
  useEffect(() => () => void (hasLeft.current = true), []);
  const run = async () => {
    if (isBusy.current) return;
    isBusy.current = true;
    while (!hasLeft.current && (pending.current === 'all' || pending.current.size > 0)) {
      const ids = pending.current;
      pending.current = new Set();
      await latest.current(ids === 'all' ? undefined : ids).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    isBusy.current = false;
  };
  useNews(({ changes, isGap }) => {
    if (isGap) pending.current = 'all';
    if (pending.current !== 'all') for (const { cohort_id: id } of changes) pending.current.add(id);
    void run();
  });
}

export const changedName = ({ person }: CohortChange) => person.distinct_ids[0] ?? person.uuid;

/** Tells readers of the page who entered and left the cohort; several changes become one sentence. */
export function Announcements({ cohort }: { cohort: number }) {
  const [text, setText] = useState('');
  const pending = useRef<CohortChange[]>([]);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const say = () => {
    setText(sentence(pending.current));
    pending.current = [];
    timer.current = setTimeout(() => {
      timer.current = undefined;
      if (pending.current.length > 0) say();
    }, ANNOUNCEMENT);
  };
  useNews(({ changes }) => {
    pending.current.push(...changes.filter(({ cohort_id: id }) => id === cohort));
    if (pending.current.length > 0 && timer.current === undefined) say();
  });
  return (
    <p class="announcement" role="status" aria-live="polite">
      {text}
    </p>
  );
}

const MOST_NAMES = 3;

export function sentence(changes: CohortChange[]): string {
  const words = (kind: CohortChange['change']) => {
    const names = changes.filter(({ change }) => change === kind).map(changedName);
    if (names.length === 0) return [];
    return [names.length <= MOST_NAMES ? `${names.join(', ')} ${kind}` : `${names.length} persons ${kind}`];
  };
  return [...words('entered'), ...words('left')].join('; ');
}
