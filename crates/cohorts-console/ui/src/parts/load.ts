// Loading of data for a screen: the newest request counts, and leaving the screen ends it.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { isAbort } from '../api/error';

export interface Loaded<T> {
  data: T | undefined;
  error: unknown;
  isLoading: boolean;
  reload(): void;
  set(data: T): void;
}

/** Runs `load` whenever a dependency changes. Former data stays until the new data is there. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, dependencies: unknown[]): Loaded<T> {
  const [state, setState] = useState<{ data: T | undefined; error: unknown; isLoading: boolean }>({
    data: undefined,
    error: undefined,
    isLoading: true,
  });
  const [round, setRound] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const controller = new AbortController();
    setState((former) => ({ ...former, isLoading: true }));
    latest.current(controller.signal).then(
      (data) => !controller.signal.aborted && setState({ data, error: undefined, isLoading: false }),
      (error: unknown) => {
        if (!controller.signal.aborted && !isAbort(error)) setState((former) => ({ ...former, error, isLoading: false }));
      },
    );
    return () => controller.abort();
  }, [...dependencies, round]);
  const reload = useCallback(() => setRound((value) => value + 1), []);
  const set = useCallback((data: T) => setState({ data, error: undefined, isLoading: false }), []);
  return { ...state, reload, set };
}

/** A value that follows `value` after a pause without changes. */
export function useSettled<T>(value: T, milliseconds: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

/** Calls `act` every few seconds while `isActive` holds and the page is visible. */
export function usePolling(act: () => void, milliseconds: number, isActive: boolean): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    if (!isActive) return undefined;
    const timer = setInterval(() => {
      if (document.visibilityState === 'visible') latest.current();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds, isActive]);
}
