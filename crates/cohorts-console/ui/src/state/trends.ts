// The sizes of cohorts over two weeks, for the lines in the list. One request at a time: the service may have to evaluate
// the days before its first record, and previews share its time.

import { cohorts } from '../api/resources';
import type { CohortSize } from '../api/types';

const DAYS = 14;
const DAY = 86_400_000;
/** How long an answer counts. */
const FRESH = 60_000;

interface Answer {
  time: number;
  sizes: CohortSize[];
}
const answers = new Map<string, Answer>();
let queue: Promise<unknown> = Promise.resolve();

/** The sizes by day, the newest last. A request that is aborted before its turn is not sent. */
export function trend(project: number, cohort: number, signal: AbortSignal): Promise<CohortSize[]> {
  const name = `${project} ${cohort}`;
  const turn = queue.then(async () => {
    signal.throwIfAborted();
    const known = answers.get(name);
    if (known && Date.now() - known.time < FRESH) return known.sizes;
    const from = new Date(Date.now() - (DAYS - 1) * DAY).toISOString();
    const { results } = await cohorts.sizes(cohort, 'day', signal, from);
    answers.set(name, { time: Date.now(), sizes: results });
    return results;
  });
  queue = turn.catch(() => undefined);
  return turn;
}
