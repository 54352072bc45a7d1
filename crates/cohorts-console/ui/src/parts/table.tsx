// A table that scrolls through millions of rows. Only the visible rows exist; pages of rows are loaded as they come into
// view, and pages that left it are no longer requested.
//
// Browsers limit the height of an element. Beyond that limit the height is cut: small steps then scroll row by row, and
// long ones, as with the scroll bar, in proportion.

import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { isAbort } from '../api/error';
import { number } from './format';

export interface Column<Row> {
  key: string;
  title: string;
  /** The least width in pixels, and the share of the remaining width. */
  width: number;
  grow: number;
  cell: (row: Row) => ComponentChildren;
  isNumber?: boolean;
}

interface Properties<Row> {
  label: string;
  columns: Column<Row>[];
  total: number;
  /** Changes when the rows are others. */
  version: string;
  /** Changes when some rows may have changed. The former ones stay until the new ones are there. */
  revision?: string;
  load: (offset: number, limit: number, signal: AbortSignal) => Promise<Row[]>;
  rowKey: (row: Row) => string;
  failed?: (error: unknown) => void;
}

const ROW = 36;
const PAGE = 100;
const SPARE = 8;
const TALLEST = 8_000_000;
const MOST_PAGES = 60;

interface Pages<Row> {
  version: string;
  revision: string;
  rows: Map<number, Row[]>;
  former: Map<number, Row[]>;
  requests: Map<number, AbortController>;
}

export function BigTable<Row>({ label, columns, total, version, revision = '', load, rowKey, failed }: Properties<Row>) {
  const scroller = useRef<HTMLDivElement>(null);
  const pages = useRef<Pages<Row>>({ version, revision, rows: new Map(), former: new Map(), requests: new Map() });
  const last = useRef(0);
  const [height, setHeight] = useState(480);
  const [top, setTop] = useState(0);
  const [, redraw] = useState(0);

  const full = total * ROW;
  const tall = Math.min(full, TALLEST);
  const mostTop = Math.max(full - height, 0);

  if (pages.current.version !== version || pages.current.revision !== revision) {
    for (const request of pages.current.requests.values()) request.abort();
    const { rows, former } = pages.current;
    const kept = pages.current.version === version ? new Map([...former, ...rows]) : new Map();
    pages.current = { version, revision, rows: new Map(), former: kept, requests: new Map() };
  }

  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight - ROW));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    last.current = 0;
    setTop(0);
    scroller.current?.scrollTo({ top: 0 });
  }, [version]);
  useEffect(
    () => () => {
      for (const request of pages.current.requests.values()) request.abort();
    },
    [],
  );

  const scrolled = () => {
    const element = scroller.current;
    if (!element) return;
    const at = element.scrollTop;
    const step = at - last.current;
    last.current = at;
    const range = Math.max(element.scrollHeight - element.clientHeight, 1);
    if (full <= TALLEST) setTop(at);
    else if (at <= 0) setTop(0);
    else if (at >= range - 1) setTop(mostTop);
    else if (Math.abs(step) <= 2 * height) setTop((former) => Math.min(Math.max(former + step, 0), mostTop));
    else setTop(Math.round((at / range) * mostTop));
  };

  const first = Math.max(Math.floor(Math.min(top, mostTop) / ROW) - SPARE, 0);
  const end = Math.min(Math.ceil((Math.min(top, mostTop) + height) / ROW) + SPARE, total);

  useEffect(() => {
    const { rows, requests } = pages.current;
    const from = Math.floor(first / PAGE);
    const to = Math.floor(Math.max(end - 1, 0) / PAGE);
    for (const [page, request] of requests) {
      if (page < from || page > to) {
        request.abort();
        requests.delete(page);
      }
    }
    for (let page = from; page <= to && total > 0; page += 1) {
      if (rows.has(page) || requests.has(page)) continue;
      const request = new AbortController();
      requests.set(page, request);
      load(page * PAGE, PAGE, request.signal).then(
        (loaded) => {
          if (pages.current.requests.get(page) !== request) return;
          requests.delete(page);
          rows.set(page, loaded);
          pages.current.former.delete(page);
          const oldest = rows.keys().next().value;
          if (rows.size > MOST_PAGES && oldest !== undefined) rows.delete(oldest);
          redraw((value) => value + 1);
        },
        (error: unknown) => {
          if (pages.current.requests.get(page) === request) requests.delete(page);
          if (!isAbort(error)) failed?.(error);
        },
      );
    }
  }, [first, end, version, revision, total]);

  const grid = columns.map(({ width, grow }) => (grow === 0 ? `${width}px` : `minmax(${width}px, ${grow}fr)`)).join(' ');
  const style = { gridTemplateColumns: grid, minWidth: `${columns.reduce((sum, { width }) => sum + width, 0)}px` };
  // Rows are placed relative to the visible part, so that heights beyond the limit need no exact position.
  const visibleTop = full <= TALLEST ? first * ROW : last.current - (Math.min(top, mostTop) - first * ROW);
  const indexes = Array.from({ length: Math.max(end - first, 0) }, (_, at) => first + at);
  return (
    <div class="big-table" ref={scroller} onScroll={scrolled} role="table" aria-label={label} aria-rowcount={total + 1} tabIndex={0}>
      <div class="big-row head" role="row" aria-rowindex={1} style={style}>
        {columns.map((column) => (
          <div role="columnheader" key={column.key} class={column.isNumber ? 'number' : ''} title={column.title}>
            {column.title}
          </div>
        ))}
      </div>
      <div class="big-body" role="rowgroup" style={{ height: `${tall}px` }}>
        <div class="big-window" role="presentation" style={{ transform: `translateY(${Math.max(visibleTop, 0)}px)` }}>
          {indexes.map((index) => {
            const page = Math.floor(index / PAGE);
            const row = (pages.current.rows.get(page) ?? pages.current.former.get(page))?.[index % PAGE];
            return (
              <div
                class={row ? 'big-row' : 'big-row waiting'}
                role="row"
                aria-rowindex={index + 2}
                key={row ? rowKey(row) : `row ${index}`}
                style={style}
              >
                {columns.map((column) => (
                  <div role="cell" key={column.key} class={column.isNumber ? 'number' : ''}>
                    {row ? column.cell(row) : <span class="bone" aria-hidden="true" />}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
      </div>
      <span class="visually-hidden">{number(total)} rows</span>
    </div>
  );
}
