// The live count of a draft: one request for the whole, for each criterion, and for the difference from the saved cohort.
// The next change ends the request for the former one.

import { useEffect, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { isAbort, ApiError } from '../api/error';
import type { Person } from '../api/types';
import { located, problem } from '../model/check';
import { write } from '../model/filter';
import type { Group } from '../model/filter';

export interface Preview {
  /** Undefined before the first answer, and for a filter without complete criteria. */
  count: number | undefined;
  /** The number of persons of each criterion, by its id. */
  counts: Map<number, number>;
  sample: Person[];
  compared: { entering: number; leaving: number; staying: number } | undefined;
  /** An error of one node. */
  nodeError: { id: number; reason: string } | undefined;
  error: unknown;
  /** Whether an answer is awaited. The former one is shown meanwhile. */
  isPending: boolean;
  milliseconds: number | undefined;
}

export const NO_PREVIEW: Preview = {
  count: undefined,
  counts: new Map(),
  sample: [],
  compared: undefined,
  nodeError: undefined,
  error: undefined,
  isPending: false,
  milliseconds: undefined,
};
export const SAMPLE = 5;
/** Keys that are pressed within this time are counted together. */
const SETTLE = 25;

export function usePreview(root: Group, saved: number | undefined): Preview {
  const [preview, setPreview] = useState<Preview>(NO_PREVIEW);
  const { filters, paths } = write(root, (criterion) => problem(criterion) !== undefined);
  const text = JSON.stringify(filters);
  const isEmpty = (filters.properties.values as unknown[]).length === 0;
  useEffect(() => {
    if (isEmpty) {
      setPreview(NO_PREVIEW);
      return undefined;
    }
    const controller = new AbortController();
    setPreview((former) => ({ ...former, isPending: true }));
    const start = setTimeout(() => {
      ask(filters, paths, saved, controller.signal, setPreview).catch((error: unknown) => {
        if (!isAbort(error)) setPreview((former) => failed(former, error, paths));
      });
    }, SETTLE);
    return () => {
      clearTimeout(start);
      controller.abort();
    };
  }, [text, saved]);
  return preview;
}

type Paths = Map<string, number>;
type Set = (change: (former: Preview) => Preview) => void;

async function ask(filters: { properties: object }, paths: Paths, saved: number | undefined, signal: AbortSignal, set: Set) {
  const answer = await cohorts.preview({ filters }, SAMPLE, signal, saved);
  const counts = new Map<number, number>();
  for (const { path, count } of answer.criteria) {
    const id = paths.get(path);
    if (id !== undefined) counts.set(id, count);
  }
  const { compared, count, sample, duration_ms: milliseconds } = answer;
  set(() => ({ ...NO_PREVIEW, compared, count, counts, sample, milliseconds }));
}

/** An error at the node that it names, or for the whole. The counts of the former filter are no longer valid. */
function failed(former: Preview, error: unknown, paths: Paths): Preview {
  const place = error instanceof ApiError && error.status === 400 ? located(error.detail) : undefined;
  const id = place && nearest(place.path, paths);
  if (place && id !== undefined) return { ...NO_PREVIEW, nodeError: { id, reason: place.reason } };
  return { ...former, error, isPending: false };
}

function nearest(path: string, paths: Paths): number | undefined {
  for (let text = path; text !== ''; text = text.replace(/(^|\.)[^.]*$/, '')) {
    const id = paths.get(text);
    if (id !== undefined) return id;
  }
  return undefined;
}
