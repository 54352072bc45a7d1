// The text of a query: what is completed at the caret, and the place that an error names.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { completionAt, placeOf, tokens } from '../../src/model/query';

/** The completion at `|`. */
function at(marked: string) {
  const caret = marked.indexOf('|');
  const completion = completionAt(marked.replace('|', ''), caret);
  return completion && { ...completion.wanted, typed: completion.typed };
}

/** The query after a choice, with `|` at the caret. */
function chosen(marked: string, choice: string): string | undefined {
  const result = completionAt(marked.replace('|', ''), marked.indexOf('|'))?.insert(choice);
  return result && `${result.text.slice(0, result.caret)}|${result.text.slice(result.caret)}`;
}

test('the text compared with the column event is a name of an event', () => {
  assert.deepEqual(at("SELECT person_id FROM events WHERE event = 'pur|"), { kind: 'event', typed: 'pur' });
  assert.deepEqual(at("SELECT person_id FROM events WHERE event NOT IN ('a', 'b|"), { kind: 'event', typed: 'b' });
  assert.equal(at("SELECT person_id FROM events WHERE event = 'pur'|"), undefined);
  assert.equal(at("SELECT person_id FROM events WHERE timestamp > '2026|"), undefined);
});

test('a name after properties is a property of events or of persons', () => {
  const where = "FROM events WHERE event = 'purchase' AND";
  assert.deepEqual(at(`SELECT person_id ${where} properties.am|`), { kind: 'property', of: 'event', event: 'purchase', typed: 'am' });
  assert.deepEqual(at(`SELECT person_id ${where} person.properties.|`), { kind: 'property', of: 'person', event: 'purchase', typed: '' });
  assert.deepEqual(at('SELECT id FROM persons WHERE properties.`pl|'), { kind: 'property', of: 'person', event: '', typed: 'pl' });
  assert.equal(at('SELECT id FROM persons WHERE created_at|'), undefined);
});

test('the text compared with a property is a value of it', () => {
  assert.deepEqual(at("SELECT id FROM persons WHERE properties.plan = '|"), { kind: 'value', of: 'person', key: 'plan', event: '', typed: '' });
  assert.deepEqual(at("SELECT id FROM persons WHERE properties['the plan'] IN ('a', 'b|"), { kind: 'value', of: 'person', key: 'the plan', event: '', typed: 'b' });
  const events = "SELECT person_id FROM events WHERE event = 'a' AND properties.$browser = 'Fi|";
  assert.deepEqual(at(events), { kind: 'value', of: 'event', key: '$browser', event: 'a', typed: 'Fi' });
  const two = "SELECT id FROM persons WHERE properties.a = 'x' UNION SELECT person_id FROM events WHERE properties.b = '|";
  assert.deepEqual(at(two), { kind: 'value', of: 'event', key: 'b', event: '', typed: '' });
});

test('a choice is written as the language needs it', () => {
  assert.equal(chosen("WHERE event = 'pu|", 'purchase'), "WHERE event = 'purchase'|");
  assert.equal(chosen("WHERE event = 'pu|' AND x", "it's"), "WHERE event = 'it''s'| AND x");
  assert.equal(chosen('FROM events WHERE properties.am|  > 3', 'amount'), 'FROM events WHERE properties.amount|  > 3');
  assert.equal(chosen('FROM events WHERE properties.|', 'the amount'), 'FROM events WHERE properties.`the amount`|');
});

test('every choice is read back as it is', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (choice) => {
      const text = "SELECT person_id FROM events WHERE event = '";
      const result = completionAt(text, text.length)?.insert(choice);
      assert.equal(tokens(result?.text ?? '').at(-1)?.value, choice);
    }),
  );
});

test('any text and caret can be completed or not, without an error', () => {
  const piece = fc.constantFrom("'", '"', '`', '.', '(', ',', '=', ' ', 'properties', 'event', 'IN', 'FROM persons', '--', '/*', '\\', 'é', '😀', '\n');
  fc.assert(
    fc.property(fc.array(piece), fc.nat(40), (pieces, caret) => {
      const text = pieces.join('');
      const completion = completionAt(text, Math.min(caret, text.length));
      if (completion) assert.ok(completion.insert('x').text.startsWith(text.slice(0, completion.from)));
    }),
  );
});

test('an error has a place if it names one', () => {
  const text = "SELECT person_id FROM events\nWHERE evnt = '😀' foo";
  const part = (detail: string) => {
    const place = placeOf(detail, text);
    return place && [text.slice(place.from, place.to), place.line, place.column];
  };
  assert.deepEqual(part("'foo' follows the end of the query at Line: 2, Column: 18"), ['foo', 2, 18]);
  assert.deepEqual(part("there is no column 'evnt' in events; expected one of person_id"), ['evnt', 2, 7]);
  assert.deepEqual(part('the SQL cannot be read: Expected: an expression, found: EOF'), ['', 2, 21]);
  assert.equal(part('the query is too large'), undefined);
  assert.equal(part("there is no column 'person_ids'"), undefined);
});
