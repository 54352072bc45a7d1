// The text of a query around the caret: which name or value is being typed there, and the place that an error names.
// This reads tokens only; the service reads the query.

export type Wanted =
  | { kind: 'event' }
  | { kind: 'property'; of: 'event' | 'person'; event: string }
  | { kind: 'value'; of: 'event' | 'person'; key: string; event: string };

/** What can be completed: the text from `from` to the caret is the beginning of a name or a value. */
export interface Completion {
  wanted: Wanted;
  from: number;
  typed: string;
  /** The query with the choice in place of the beginning, and the caret after it. */
  insert(choice: string): { text: string; caret: number };
}

interface Token {
  kind: 'text' | 'name' | 'sign';
  value: string;
  from: number;
  to: number;
  /** Whether a text or a quoted name has its closing quote. */
  isClosed: boolean;
}

const TOKENS = /--[^\n]*|\/\*[^]*?(?:\*\/|$)|'((?:[^'\\]|\\.|'')*)('?)|`([^`]*)(`?)|"([^"]*)("?)|([\p{L}_$][\p{L}\p{N}_$]*)|([<>!=]=|<>|[^\s])/gu;

export function tokens(text: string): Token[] {
  return [...text.matchAll(TOKENS)].flatMap((match): Token[] => {
    const [whole, string, stringEnd, tick, tickEnd, quoted, quotedEnd, name, sign] = match;
    const at = { from: match.index, to: match.index + whole.length };
    if (string !== undefined) return [{ kind: 'text', value: unquote(string), isClosed: stringEnd !== '', ...at }];
    if (tick !== undefined) return [{ kind: 'name', value: tick, isClosed: tickEnd !== '', ...at }];
    if (quoted !== undefined) return [{ kind: 'name', value: quoted, isClosed: quotedEnd !== '', ...at }];
    if (name !== undefined) return [{ kind: 'name', value: name, isClosed: true, ...at }];
    return sign === undefined ? [] : [{ kind: 'sign', value: sign, isClosed: true, ...at }];
  });
}

const unquote = (text: string) => text.replace(/\\(.)|''/gs, (_, character: string | undefined) => character ?? "'");
const quote = (text: string) => text.replaceAll('\\', '\\\\').replaceAll("'", "''");
const isPlainName = (name: string) => /^[A-Za-z_$][\w$]*$/.test(name);
/** A name after a dot: between quotes if it is not a plain name. */
const member = (name: string) => (isPlainName(name) ? name : name.includes('`') ? `"${name}"` : `\`${name}\``);

export function completionAt(text: string, caret: number): Completion | undefined {
  const before = tokens(text.slice(0, caret));
  const last = before.at(-1);
  if (!last || last.to !== caret) return undefined;
  return last.kind === 'text' ? ofText(text, caret, before, last) : ofName(text, caret, before, last);
}

/** A text that is compared with a column: `event = '…`, `properties.plan IN ('a', '…`. */
function ofText(text: string, caret: number, before: Token[], last: Token): Completion | undefined {
  if (last.isClosed) return undefined;
  let at = before.length - 2;
  while (at >= 0 && (before[at]?.kind === 'text' || [',', '('].includes(before[at]?.value ?? ''))) at -= 1;
  if (!isComparison(before[at])) return undefined;
  at -= 1;
  if (before[at]?.value.toUpperCase() === 'NOT') at -= 1;
  const path = pathBefore(before, at);
  const wanted = wantedValue(path, text, caret);
  if (!wanted) return undefined;
  const from = last.from + 1;
  const hasQuote = text[caret] === "'";
  const insert = (choice: string) => {
    const value = `${quote(choice)}'`;
    return { text: text.slice(0, from) + value + text.slice(hasQuote ? caret + 1 : caret), caret: from + value.length };
  };
  return { wanted, from, typed: last.value, insert };
}

const isComparison = (token: Token | undefined) =>
  token !== undefined && ['=', '==', '!=', '<>', 'IN', 'LIKE', 'ILIKE'].includes(token.value.toUpperCase());

function wantedValue(path: string[], text: string, caret: number): Wanted | undefined {
  const [first, key] = [path.at(-2), path.at(-1)];
  if (path.length === 1 && key === 'event') return { kind: 'event' };
  if (first !== 'properties' || key === undefined) return undefined;
  return { kind: 'value', of: ownerOf(path.slice(0, -1), text, caret), key, event: eventOf(text) };
}

/** The name of a property: `properties.pl`. */
function ofName(text: string, caret: number, before: Token[], last: Token): Completion | undefined {
  const isDot = last.value === '.' && last.kind === 'sign';
  if (!isDot && (last.kind !== 'name' || before.at(-2)?.value !== '.')) return undefined;
  const isQuoted = last.kind === 'name' && '`"'.includes(text[last.from] ?? ' ');
  if (isQuoted && last.isClosed) return undefined;
  const path = pathBefore(before, before.length - (isDot ? 2 : 3));
  if (path.at(-1) !== 'properties') return undefined;
  const from = isDot ? caret : last.from;
  const insert = (choice: string) => {
    const value = member(choice);
    return { text: text.slice(0, from) + value + text.slice(caret), caret: from + value.length };
  };
  const wanted: Wanted = { kind: 'property', of: ownerOf(path, text, caret), event: eventOf(text) };
  return { wanted, from, typed: isDot ? '' : last.value, insert };
}

/** The names that end at the token, joined by dots or by brackets with a text. */
function pathBefore(list: Token[], end: number): string[] {
  const path: string[] = [];
  let at = end;
  if (list[at]?.value === ']' && list[at - 1]?.kind === 'text' && list[at - 2]?.value === '[') {
    path.unshift(list[at - 1]?.value ?? '');
    at -= 3;
  }
  for (; list[at]?.kind === 'name'; at -= 2) {
    path.unshift(list[at]?.value ?? '');
    if (list[at - 1]?.value !== '.') break;
  }
  return path;
}

/** The owner of the properties: a person after `person.` and in a SELECT of persons. */
function ownerOf(path: string[], text: string, caret: number): 'event' | 'person' {
  if (path.at(-2) === 'person' || path.at(-2) === 'persons') return 'person';
  const tables = [...text.matchAll(/\bFROM\s+(\w+)/gi)];
  const table = tables.findLast(({ index }) => index < caret) ?? tables[0];
  return table?.[1]?.toLowerCase() === 'persons' ? 'person' : 'event';
}

/** The event that the query names, if it names one only. */
function eventOf(text: string): string {
  const list = tokens(text);
  const found = list.flatMap((token, at) => {
    const value = list[at + 2];
    const isEvent = token.kind === 'name' && token.value === 'event' && list[at + 1]?.value === '=';
    return isEvent && value?.kind === 'text' && value.isClosed ? [value.value] : [];
  });
  return new Set(found).size === 1 ? (found[0] ?? '') : '';
}

/** A part of the query, by offsets, with its line and column from 1. */
export interface Place {
  from: number;
  to: number;
  line: number;
  column: number;
}

/** The place that an error names: by line and column, as the end, or as a name between quotes that the query has once. */
export function placeOf(detail: string, text: string): Place | undefined {
  const position = /Line: (\d+), Column: (\d+)/.exec(detail);
  if (position) return atLine(text, Number(position[1]), Number(position[2]));
  if (/found: EOF$/.test(detail)) return placeAt(text, text.trimEnd().length, text.trimEnd().length);
  const name = /'([^']+)'/.exec(detail)?.[1];
  if (name === undefined) return undefined;
  const spots = [...text.matchAll(new RegExp(`(?<![\\w$])${escape(name)}(?![\\w$])`, 'gi'))];
  const [spot] = spots;
  return spot && spots.length === 1 ? placeAt(text, spot.index, spot.index + spot[0].length) : undefined;
}

const escape = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** The service counts characters, and the page counts UTF-16 units. */
function atLine(text: string, line: number, column: number): Place | undefined {
  const lines = text.split('\n');
  const wanted = lines[line - 1];
  if (wanted === undefined) return undefined;
  const start = lines.slice(0, line - 1).reduce((sum, { length }) => sum + length + 1, 0);
  const from = start + [...wanted].slice(0, column - 1).join('').length;
  const token = tokens(text).find((other) => other.from <= from && from < other.to);
  return { from, to: token?.to ?? Math.min(from + 1, text.length), line, column };
}

function placeAt(text: string, from: number, to: number): Place {
  const lines = text.slice(0, from).split('\n');
  return { from, to, line: lines.length, column: [...(lines.at(-1) ?? '')].length + 1 };
}
