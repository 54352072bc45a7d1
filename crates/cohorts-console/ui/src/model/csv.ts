// Files of persons: the first rows for the reader, and the meaning of each column as the service detects it.

export type Meaning = 'person_id' | 'distinct_id' | 'email';

export interface Table {
  delimiter: string;
  /** The names of the columns; empty for a file with one column and no header. */
  header: string[];
  rows: string[][];
  /** The line of the file on which each row starts. The first line is 1. */
  lines: number[];
}

const DELIMITERS = [',', ';', '\t', '|'];
const NAMES: [Meaning, RegExp][] = [
  ['person_id', /^person_id$/i],
  ['distinct_id', /^(\$?distinct_id|distinct_ids\.0|person\.distinct_ids\.0)$/i],
  ['person_id', /^(user_id|uuid|id)$/i],
  ['email', /^e?-?mail( address)?$/i],
];
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Splits the text of a file into rows. Quoted fields may contain delimiters, line breaks and doubled quotation marks. */
export function parse(text: string, mostRows = Number.POSITIVE_INFINITY): Table {
  const body = text.replace(/^\uFEFF/, '');
  const named = /^sep=(.)\r?\n/i.exec(body);
  const start = named ? named[0].length : 0;
  const delimiter = named?.[1] ?? delimiterOf(body);
  const rows: string[][] = [];
  const lines: number[] = [];
  let [row, field, isQuoted, wasQuoted] = [[] as string[], '', false, false];
  let line = named ? 2 : 1;
  let rowLine = line;
  const endField = () => {
    row.push(field);
    [field, wasQuoted] = ['', false];
  };
  const endRow = () => {
    endField();
    if (row.some((value) => value.trim() !== '')) {
      rows.push(row);
      lines.push(rowLine);
    }
    row = [];
  };
  for (let at = start; at < body.length && rows.length <= mostRows; at += 1) {
    const letter = body[at];
    if (letter === '\n') line += 1;
    if (isQuoted) {
      if (letter !== '"') field += letter;
      else if (body[at + 1] === '"') {
        field += '"';
        at += 1;
      } else isQuoted = false;
    } else if (letter === '"' && field === '' && !wasQuoted) {
      [isQuoted, wasQuoted] = [true, true];
    } else if (letter === delimiter) {
      endField();
    } else if (letter === '\n') {
      if (field.endsWith('\r')) field = field.slice(0, -1);
      endRow();
      rowLine = line;
    } else {
      field += letter;
    }
  }
  if (field !== '' || row.length > 0) endRow();
  const [first] = rows;
  const hasHeader = first !== undefined && (first.length > 1 || meaningOf(first[0] ?? '', []) !== undefined);
  return hasHeader
    ? { delimiter, header: first.map((name) => name.trim()), rows: rows.slice(1), lines: lines.slice(1) }
    : { delimiter, header: [], rows, lines };
}

function delimiterOf(text: string): string {
  const end = text.indexOf('\n');
  const line = (end < 0 ? text : text.slice(0, end)).replaceAll(/"[^"]*"/g, '');
  const counts = DELIMITERS.map((delimiter) => line.split(delimiter).length);
  return DELIMITERS[counts.indexOf(Math.max(...counts))] ?? ',';
}

/** What the service takes a column for, by its name; `values` decide about `id` and similar names. */
function meaningOf(name: string, values: string[]): Meaning | undefined {
  const meaning = NAMES.find(([, pattern]) => pattern.test(name.trim()))?.[0];
  const needsUuids = /^(user_id|uuid|id)$/i.test(name.trim());
  if (!needsUuids) return meaning;
  const given = values.filter((value) => value !== '');
  if (given.length === 0 || given.every((value) => UUID.test(value))) return 'person_id';
  return /^user_id$/i.test(name.trim()) ? 'distinct_id' : undefined;
}

/** The column with the ids and its meaning, as the service would choose it. */
export function detect(table: Table): { column: number; meaning: Meaning } | undefined {
  if (table.header.length === 0) return table.rows.length > 0 ? { column: 0, meaning: 'distinct_id' } : undefined;
  const columns = table.header.map((name, column) => ({
    column,
    meaning: meaningOf(name, table.rows.map((row) => row[column] ?? '')),
  }));
  for (const meaning of ['person_id', 'distinct_id', 'email'] as const) {
    const found = columns.find((column) => column.meaning === meaning);
    if (found) return { column: found.column, meaning };
  }
  return undefined;
}

const quote = (value: string) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

export const writeRow = (row: string[]) => `${row.map(quote).join(',')}\r\n`;

/** A file with one column only, under the name of its meaning. Rows keep their number; an empty row has a quoted blank. */
export function onlyColumn(table: Table, column: number, meaning: Meaning): string {
  const rows = table.rows.map((row) => writeRow([row[column] ?? '']));
  return `${meaning}\r\n${rows.join('')}`;
}
