// Sentences, and the reading of files.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { detect, onlyColumn, parse, writeRow } from '../../src/model/csv';
import { read } from '../../src/model/filter';
import type { JsonObject } from '../../src/model/filter';
import { summary } from '../../src/model/sentence';

const names = { cohort: (id: number) => (id === 7 ? 'Gone quiet' : undefined), action: () => 'Bought' };
const say = (...values: JsonObject[]) => summary(read({ properties: { type: 'AND', values } }), names);
const event = (value: string, more: JsonObject): JsonObject => ({ type: 'behavioral', key: 'purchase', event_type: 'events', value, time_value: 30, time_interval: 'day', ...more });

test('criteria are sentences', () => {
  const where = [{ type: 'event', key: 'price', operator: 'gt', value: 50 }];
  const cases: [JsonObject, string][] = [
    [event('performed_event_multiple', { operator: 'gte', operator_value: 3, event_filters: where }), 'did purchase at least 3 times in the last 30 days where price is greater than 50'],
    [event('performed_event', { negation: true, time_value: 1 }), 'did not do purchase in the last 1 day'],
    [{ type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event', explicit_datetime: 'all', negation: true }, 'never did purchase'],
    [{ type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event', explicit_datetime: 'all' }, 'did purchase at any time'],
    [event('performed_event_first_time', {}), 'did purchase for the first time in the last 30 days'],
    [event('stopped_performing_event', { seq_time_value: 7, seq_time_interval: 'day' }), 'stopped doing purchase in the last 30 days, and not in the last 7 days'],
    [event('performed_event_regularly', { operator: 'gte', operator_value: 1, total_periods: 4, min_periods: 3 }), 'did purchase at least 1 time in each of at least 3 of the last 4 periods of 30 days'],
    [{ type: 'person', key: 'plan', operator: 'exact', value: ['a', 'b', 'c'] }, 'plan is a, b or c'],
    [{ type: 'person', key: 'age', operator: 'between', value: [18, 30] }, 'age is between 18 and 30'],
    [{ type: 'person', key: 'seen', operator: 'is_date_after', value: '-7d' }, 'seen is after 7 days ago'],
    [{ type: 'cohort', key: 'id', value: 7, negation: true }, 'is not in Gone quiet'],
    [{ type: 'cohort', key: 'id', value: 8 }, 'is in cohort 8'],
  ];
  for (const [leaf, words] of cases) assert.equal(say(leaf), words);
});

test('groups are in brackets where they matter', () => {
  const a = { type: 'person', key: 'a', operator: 'is_set' };
  const b = { type: 'person', key: 'b', operator: 'is_set' };
  assert.equal(say(a, { type: 'OR', values: [a, b] }), 'a is set and (a is set or b is set)');
  assert.equal(say({ type: 'OR', values: [a] }), 'a is set');
});

test('what is written as a row is read as that row', () => {
  const cell = fc.string({ unit: fc.constantFrom('a', 'é', ',', ';', '"', ' ', '\n', '\t') });
  fc.assert(
    fc.property(fc.array(fc.array(cell, { minLength: 2, maxLength: 2 }), { minLength: 1, maxLength: 6 }), (rows) => {
      const text = writeRow(['distinct_id', 'note']) + rows.map(writeRow).join('');
      const table = parse(text);
      assert.deepEqual(table.header, ['distinct_id', 'note']);
      assert.deepEqual(table.rows, rows.filter((row) => row.some((value) => value.trim() !== '')));
    }),
  );
});

test('the column with the ids is found as the service finds it', () => {
  const uuid = '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b';
  const cases: [string, { column: number; meaning: string } | undefined][] = [
    ['name,Email\nx,a@b', { column: 1, meaning: 'email' }],
    ['email;$distinct_id\na@b;u1', { column: 1, meaning: 'distinct_id' }],
    [`id\tname\n${uuid}\tx`, { column: 0, meaning: 'person_id' }],
    ['id,name\n12,x', undefined],
    ['u1\nu2\n', { column: 0, meaning: 'distinct_id' }],
    ['distinct_id\nu2\n', { column: 0, meaning: 'distinct_id' }],
    ['sep=;\na;person_id\nx;y', { column: 1, meaning: 'person_id' }],
  ];
  for (const [text, expected] of cases) assert.deepEqual(detect(parse(text)), expected, text);
});

test('rows know their lines, and one column becomes a file', () => {
  const table = parse('a,b\r\n"x\ny",1\r\n\r\nz,2\r\n');
  assert.deepEqual(table.lines, [2, 5]);
  assert.equal(onlyColumn(table, 1, 'distinct_id'), 'distinct_id\r\n1\r\n2\r\n');
});
