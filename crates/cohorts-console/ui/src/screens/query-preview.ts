// The live count of a query. The next change ends the request for the former one.

import { useEffect, useState } from 'preact/hooks';
import { cohorts } from '../api/resources';
import { ApiError, isAbort } from '../api/error';
import { NO_PREVIEW, SAMPLE } from './builder-preview';
import type { Preview } from './builder-preview';

/** Keys that are pressed within this time are counted together: a query is rarely complete during typing. */
const SETTLE = 300;

export interface QueryPreview extends Preview {
  /** Why the query cannot be used. */
  problem: string | undefined;
}

const NONE: QueryPreview = { ...NO_PREVIEW, problem: undefined };

/** What is wrong with the query, if the error is about it. */
export const queryProblem = (error: unknown) =>
  error instanceof ApiError && error.status === 400 && error.attr === 'query' ? error.detail.replace(/^query: /, '') : undefined;

export function useQueryPreview(query: string, saved: number | undefined): QueryPreview {
  const [preview, setPreview] = useState(NONE);
  const isEmpty = query.trim() === '';
  useEffect(() => {
    if (isEmpty) {
      setPreview(NONE);
      return undefined;
    }
    const controller = new AbortController();
    setPreview((former) => ({ ...former, problem: undefined, isPending: true }));
    const start = setTimeout(() => {
      const body = { query: { kind: 'HogQLQuery', query } };
      cohorts.preview(body, SAMPLE, controller.signal, saved).then(
        ({ compared, count, sample, duration_ms: milliseconds }) => setPreview({ ...NONE, compared, count, sample, milliseconds }),
        (error: unknown) => {
          if (isAbort(error) || controller.signal.aborted) return;
          const problem = queryProblem(error);
          setPreview((former) => (problem === undefined ? { ...former, error, isPending: false } : { ...NONE, problem }));
        },
      );
    }, SETTLE);
    return () => {
      clearTimeout(start);
      controller.abort();
    };
  }, [query, saved]);
  return preview;
}
