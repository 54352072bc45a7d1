// What a criterion looked for and what it found, in words.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { criteria } from '../../src/model/edit';
import { read } from '../../src/model/filter';
import type { JsonObject } from '../../src/model/filter';
import { eventsWords, queryWords, valueWords } from '../../src/model/finding';
import { leaf } from './arbitrary';

const names = { cohort: () => undefined, action: () => 'Bought' };
const first = (node: JsonObject) => [...criteria(read({ properties: { type: 'AND', values: [node] } }))][0];
const event = (value: string, more: JsonObject = {}): JsonObject => ({ type: 'behavioral', key: 'purchase', event_type: 'events', value, time_value: 30, time_interval: 'day', ...more });
const where = [{ type: 'event', key: 'price', operator: 'gt', value: 50 }];

test('the events that were looked for have their name and time', () => {
  const cases: [JsonObject, number, string][] = [
    [event('performed_event'), 0, 'found: no purchase event in the last 30 days'],
    [event('performed_event', { event_filters: where }), 1, 'found: 1 purchase event with the property in the last 30 days'],
    [event('performed_event_multiple', { operator: 'gte', operator_value: 3, key: 7, event_type: 'actions' }), 1200, 'found: 1,200 Bought events in the last 30 days'],
    [event('performed_event_first_time', { event_filters: where }), 2, 'found: 2 purchase events so far'],
    [event('performed_event_sequence', { seq_event: 'refund', seq_event_type: 'events', seq_time_value: 1, seq_time_interval: 'day' }), 3, 'found: 3 purchase or refund events in the last 30 days'],
    [event('stopped_performing_event', { seq_time_value: 7, seq_time_interval: 'day' }), 0, 'found: no purchase event in this time'],
    [{ type: 'behavioral', key: 'purchase', event_type: 'events', value: 'performed_event', explicit_datetime: 'all', negation: true }, 0, 'found: no purchase event at any time'],
  ];
  for (const [node, count, words] of cases) assert.equal(eventsWords(first(node), count, names), words);
  assert.equal(eventsWords(undefined, 2, names), 'found: 2 events');
});

test('a value has the name of its property', () => {
  const plan = first({ type: 'person', key: 'plan', operator: 'exact', value: 'pro' });
  assert.equal(valueWords(plan, 'free'), 'found: plan is free');
  assert.equal(valueWords(plan, null), 'found: the person has no plan');
  assert.equal(valueWords(undefined, 3), 'found: 3');
});

test('a query has a sentence, and no other path has one', () => {
  assert.equal(queryWords('query', true), 'The query selects this person.');
  assert.equal(queryWords('query', false), 'The query does not select this person.');
  assert.equal(queryWords('properties.values[0]', true), undefined);
});

test('every criterion has words', () => {
  fc.assert(fc.property(leaf, fc.nat(), (node, count) => assert.ok(eventsWords(first(node), count, names).startsWith('found: '))));
});
