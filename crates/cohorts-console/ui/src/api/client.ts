// Requests to the API. Reads are repeated after a lost connection and when the service asks to wait; writes are not,
// because the page cannot know whether the first attempt had an effect.

import { computed, signal } from '@preact/signals';
import { ApiError, ConnectionError, errorOf, isAbort } from './error';

/** What the page says about the connection. `until` is the time of the next attempt. */
export type Connection = { state: 'ok' } | { state: 'lost' | 'busy'; until: number };
/** The requests that wait for another attempt. */
const waits = signal<Exclude<Connection, { state: 'ok' }>[]>([]);
export const connection = computed<Connection>(() => waits.value.at(-1) ?? { state: 'ok' });

const ATTEMPTS_WHEN_BUSY = 4;
const LONGEST_PAUSE = 30_000;

export interface Credentials {
  key: string;
  /** Called when the service refuses the key. */
  refused(error: ApiError): void;
}

let credentials: Credentials | undefined;
export const setCredentials = (next: Credentials | undefined) => {
  credentials = next;
};
export const currentKey = () => credentials?.key ?? '';

export type Query = Record<string, string | number | boolean | undefined>;

export interface Options {
  method?: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
  /** A key to try, instead of that of the session. */
  key?: string;
  headers?: Record<string, string>;
  /** Without a key. */
  isAnonymous?: boolean;
  /** Repeat also if it is no GET: the request changes nothing. */
  isRead?: boolean;
}

export function address(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === '' ? path : `${path}?${text}`;
}

/** The JSON of a response. */
export async function call<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  const text = await response.text();
  return (text === '' ? undefined : JSON.parse(text)) as T;
}

/** A successful response. */
export async function send(path: string, options: Options = {}): Promise<Response> {
  const { method = 'GET', isRead = method === 'GET', signal: abort } = options;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once(path, { ...options, method });
    } catch (error) {
      if (isAbort(error)) throw error;
      if (error instanceof ApiError && error.status === 401 && !options.key) credentials?.refused(error);
      const pause = isRead ? pauseAfter(error, attempt) : undefined;
      if (pause === undefined) throw error;
      const wait = { state: error instanceof ConnectionError ? ('lost' as const) : ('busy' as const), until: Date.now() + pause };
      waits.value = [...waits.value, wait];
      try {
        await waitFor(pause, abort);
      } finally {
        waits.value = waits.value.filter((other) => other !== wait);
      }
    }
  }
}

async function once(path: string, { method, query, body, signal: abort, key, headers: more, isAnonymous }: Options): Promise<Response> {
  const headers: Record<string, string> = { ...more };
  if (!isAnonymous) headers['authorization'] = `Bearer ${key ?? currentKey()}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(address(path, query), {
      method: method ?? 'GET',
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: abort ?? null,
      cache: 'no-store',
      credentials: 'omit',
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ConnectionError('the connection failed');
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** Milliseconds until the next attempt; `undefined` if another attempt is of no use. */
function pauseAfter(error: unknown, attempt: number): number | undefined {
  if (error instanceof ConnectionError) return Math.min(1_000 * 2 ** attempt, LONGEST_PAUSE);
  if (!(error instanceof ApiError) || attempt >= ATTEMPTS_WHEN_BUSY) return undefined;
  if (error.status !== 429 && error.status !== 503) return undefined;
  const seconds = error.retryAfter ?? 2 ** attempt;
  return seconds * 1_000 <= LONGEST_PAUSE ? seconds * 1_000 : undefined;
}

/** Waits; ends early if the browser reports a connection. */
export function waitFor(milliseconds: number, abort: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = () => {
      clearTimeout(timer);
      removeEventListener('online', finish);
      abort?.removeEventListener('abort', cancel);
      resolve();
    };
    const cancel = () => {
      finish();
      reject(new DOMException('aborted', 'AbortError'));
    };
    const timer = setTimeout(finish, milliseconds);
    addEventListener('online', finish);
    abort?.addEventListener('abort', cancel);
    if (abort?.aborted) cancel();
  });
}
