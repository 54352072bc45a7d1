// Members that enter and leave while the page is open: one stream of the project's feed for all tabs of the browser.
//
// The tabs with the same key and project share a lock. Its holder reads the stream and passes the changes on; when that tab
// is closed, another one continues after the last change. Without locks, which browsers offer only on https and on this
// machine, each tab has a stream of its own while it is visible.

import { signal } from '@preact/signals';
import { currentKey, waitFor } from '../api/client';
import { ApiError, ConnectionError } from '../api/error';
import { changes as feed } from '../api/resources';
import type { CohortChange } from '../api/types';
import { takeEvents } from '../model/events';

export type LiveState = { kind: 'connecting' } | { kind: 'live' } | { kind: 'waiting'; why: string } | { kind: 'stopped'; why: string };
export const live = signal<LiveState>({ kind: 'connecting' });

export interface News {
  changes: CohortChange[];
  /** Changes may be missing before these: load everything again. */
  isGap: boolean;
}

/** What tabs tell each other. A tab that arrives asks for the state. */
type Message = { asks: true } | { state: LiveState } | (News & { cursor: string | undefined });

const listeners = new Set<(news: News) => void>();

/** Calls `listener` with all news until the result is called. */
export function listen(listener: (news: News) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The service sends at least a comment in this time. */
const SILENCE = 45_000;
const LONGEST_PAUSE = 60_000;
const SHORTEST_PAUSE = 500;

/** Follows the project until the result is called. */
export function follow(project: number): () => void {
  const stop = new AbortController();
  live.value = { kind: 'connecting' };
  void channelName(project).then((name) => {
    if (stop.signal.aborted) return;
    if (name === undefined) void new Stream(receive, stop.signal, true).run();
    else share(name, stop.signal);
  });
  return () => stop.abort();
}

/** A name that only tabs with the same key know. */
async function channelName(project: number): Promise<string | undefined> {
  if (!('locks' in navigator) || !('BroadcastChannel' in globalThis)) return undefined;
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${project} ${currentKey()}`));
  return `cohorts.live.${[...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}

function share(name: string, stop: AbortSignal): void {
  const channel = new BroadcastChannel(name);
  const stream = new Stream(
    (message) => {
      receive(message);
      channel.postMessage(message);
    },
    stop,
    false,
  );
  let isHolder = false;
  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if ('asks' in data) {
      if (isHolder) channel.postMessage({ state: live.peek() } satisfies Message);
      return;
    }
    if ('cursor' in data) stream.cursor = data.cursor;
    receive(data);
  };
  stop.addEventListener('abort', () => channel.close());
  channel.postMessage({ asks: true } satisfies Message);
  const hold = async () => {
    isHolder = true;
    await stream.run();
  };
  // The request is refused when the session ends before the tab has the lock.
  navigator.locks.request(name, { signal: stop }, hold).catch(() => undefined);
}

function receive(message: Message): void {
  if ('state' in message) live.value = message.state;
  if ('changes' in message) for (const listener of [...listeners]) listener(message);
}

class Stream {
  cursor: string | undefined;
  private failures = 0;
  private isFirst = true;

  constructor(
    private readonly tell: (message: Message) => void,
    private readonly stop: AbortSignal,
    private readonly onlyVisible: boolean,
  ) {}

  /** Reads until the session ends, or the service refuses the stream for good. */
  async run(): Promise<void> {
    while (!this.stop.aborted) {
      if (this.onlyVisible) await visible();
      const pause = await this.connect();
      if (pause === undefined || this.stop.aborted) return;
      await waitFor(pause, this.stop).catch(() => undefined);
    }
  }

  /** Reads one response to its end. Returns the pause before the next one. */
  private async connect(): Promise<number | undefined> {
    const attempt = new Attempt(this.stop, this.onlyVisible);
    try {
      const response = await feed.stream(this.cursor, attempt.signal);
      this.begin();
      await this.read(response, attempt);
      return this.pause();
    } catch (error) {
      return this.stop.aborted ? undefined : this.failed(error);
    } finally {
      attempt.end();
    }
  }

  private begin(): void {
    this.tell({ state: { kind: 'live' } });
    if (this.cursor === undefined && !this.isFirst) this.tell({ changes: [], isGap: true, cursor: undefined });
    this.isFirst = false;
  }

  private async read(response: Response, attempt: Attempt): Promise<void> {
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const piece = await reader?.read();
      if (!piece || piece.done) return;
      attempt.heard();
      const taken = takeEvents(rest + piece.value);
      rest = taken.rest;
      if (taken.events.length === 0) continue;
      this.failures = 0;
      this.cursor = taken.events.findLast(({ id }) => id !== undefined)?.id ?? this.cursor;
      const changes = taken.events.flatMap(({ data }) => (data === undefined ? [] : [JSON.parse(data) as CohortChange]));
      this.tell({ changes, isGap: false, cursor: this.cursor });
    }
  }

  /** What a failure means. `undefined` if another attempt is of no use. */
  private failed(error: unknown): number | undefined {
    if (!(error instanceof ApiError)) {
      const isLost = error instanceof ConnectionError || !navigator.onLine;
      if (isLost) this.tell({ state: { kind: 'waiting', why: 'The connection to the service is lost.' } });
      return this.pause();
    }
    // The position is too old, or of another service: begin now, and load everything again.
    if (error.status === 410 || (error.status === 400 && this.cursor !== undefined)) {
      this.cursor = undefined;
      return this.pause();
    }
    if (error.status === 429 || error.status >= 500) {
      const why = error.status === 429 ? 'This key has too many open streams; other pages or programs use them.' : 'The service is busy.';
      this.tell({ state: { kind: 'waiting', why } });
      return Math.max(this.pause(), (error.retryAfter ?? 0) * 1_000);
    }
    const why = error.scope ? `The key lacks the scope ${error.scope}.` : error.detail;
    this.tell({ state: { kind: 'stopped', why } });
    return undefined;
  }

  private pause(): number {
    const pause = Math.min(SHORTEST_PAUSE * 2 ** this.failures, LONGEST_PAUSE);
    this.failures += 1;
    return pause;
  }
}

/** One connection. It ends with the session, after a silence, and when the browser is offline. */
class Attempt {
  private readonly controller = new AbortController();
  readonly signal = this.controller.signal;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly cancel = () => this.controller.abort();
  private readonly hide = () => document.visibilityState === 'hidden' && this.controller.abort();

  constructor(
    private readonly stop: AbortSignal,
    onlyVisible: boolean,
  ) {
    stop.addEventListener('abort', this.cancel);
    addEventListener('offline', this.cancel);
    if (onlyVisible) document.addEventListener('visibilitychange', this.hide);
    this.heard();
  }

  heard(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.cancel, SILENCE);
  }

  end(): void {
    clearTimeout(this.timer);
    this.controller.abort();
    this.stop.removeEventListener('abort', this.cancel);
    removeEventListener('offline', this.cancel);
    document.removeEventListener('visibilitychange', this.hide);
  }
}

function visible(): Promise<void> {
  return new Promise((resolve) => {
    const check = () => {
      if (document.visibilityState === 'hidden') return;
      document.removeEventListener('visibilitychange', check);
      resolve();
    };
    document.addEventListener('visibilitychange', check);
    check();
  });
}
