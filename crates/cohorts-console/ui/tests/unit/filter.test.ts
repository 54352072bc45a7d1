// Reading and writing of filters: round trips of every kind, paths, and what is left out.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { criteria } from '../../src/model/edit';
import { FilterError, isGroup, read, write, writeCriterion } from '../../src/model/filter';
import type { Json, JsonObject } from '../../src/model/filter';
import { problem } from '../../src/model/check';
import { BEHAVIOR_KINDS, behavioral, cohort, filters, leaf, metadata, other, person } from './arbitrary';

const only = (node: JsonObject): JsonObject => ({ properties: { type: 'AND', values: [node] } });
const roundTrip = (value: Json) => write(read(value)).filters;

function kindOf(node: JsonObject): string {
  const [criterion] = criteria(read(only(node)));
  return criterion?.test.kind ?? 'none';
}

const KINDS: [string, fc.Arbitrary<JsonObject>, string][] = [
  ['a property', person, 'property'],
  ['the creation time', metadata, 'created'],
  ['another cohort', cohort, 'cohort'],
  ['a criterion without a sentence', other, 'other'],
  ...BEHAVIOR_KINDS.map((kind): [string, fc.Arbitrary<JsonObject>, string] => [kind, behavioral(kind), 'event']),
];

for (const [words, arbitrary, kind] of KINDS) {
  test(`${words} is a sentence of its kind and comes back unchanged`, () => {
    fc.assert(
      fc.property(arbitrary, (node) => {
        assert.equal(kindOf(node), kind);
        assert.deepEqual(roundTrip(only(node)), only(node));
      }),
    );
  });
}

test('a filter of any depth comes back unchanged', () => {
  fc.assert(fc.property(filters, (value) => assert.deepEqual(roundTrip(value), withoutEmptyGroups(value))));
});

/** Groups without criteria are not written. */
function withoutEmptyGroups(value: JsonObject): JsonObject {
  const prune = (node: JsonObject): JsonObject | undefined => {
    if (!Array.isArray(node.values) || typeof node.type !== 'string' || !['AND', 'OR'].includes(node.type)) return node;
    const values = (node.values as JsonObject[]).map(prune).filter((inner) => inner !== undefined);
    return values.length === 0 ? undefined : { ...node, values };
  };
  const root = value.properties as JsonObject;
  return { properties: prune(root) ?? { type: root.type as string, values: [] } };
}

test('what the service stores differently is the same sentence', () => {
  const stored = { type: 'behavioral', key: 'buy', event_type: 'events', value: 'performed_event_multiple_times', operator: 'eq', operator_value: '3', time_value: ' 30 ', time_interval: 'day', explicit_datetime: null, negation: 'True', bytecode: ['x'], conditionHash: null };
  const expected = { type: 'behavioral', key: 'buy', event_type: 'events', value: 'performed_event_multiple', operator: 'exact', operator_value: 3, time_value: 30, time_interval: 'day', negation: true };
  assert.deepEqual(roundTrip(only(stored)), only(expected));
  assert.deepEqual(roundTrip(only({ type: 'person', key: 'plan', value: 'pro', negation: false })), only({ type: 'person', key: 'plan', operator: 'exact', value: 'pro' }));
});

test('at least 1 time comes back in the form in which it was saved', () => {
  const once = { type: 'behavioral', key: 'buy', event_type: 'events', value: 'performed_event', time_value: 30, time_interval: 'day' };
  const counted = { ...once, value: 'performed_event_multiple', operator: 'gte', operator_value: 1 };
  for (const leaf of [once, counted]) assert.deepEqual(roundTrip(only(leaf)), only(leaf));
});

test('a filter without criteria is an empty group', () => {
  const values: (Json | undefined)[] = [undefined, null, { properties: {} }, { properties: { type: 'AND', values: [] } }];
  for (const value of values) {
    assert.equal(read(value).nodes.length, 0);
  }
});

test('an error in the text names the path', () => {
  const wrong: [Json, string][] = [
    [[], 'filters'],
    [{}, 'filters'],
    [{ properties: { type: 'XOR', values: [] } }, 'properties'],
    [{ properties: { type: 'AND' } }, 'properties'],
    [{ properties: { type: 'AND', values: [1] } }, 'properties.values[0]'],
    [{ properties: { type: 'AND', values: [{ type: 'OR', values: [{}] }] } }, 'properties.values[0].values[0]'],
  ];
  for (const [value, path] of wrong) {
    assert.throws(() => read(value), (error: unknown) => error instanceof FilterError && error.path === path);
  }
});

test('the path of each criterion leads to it in the written filter', () => {
  fc.assert(
    fc.property(filters, (value) => {
      const root = read(value);
      const { filters: written, paths } = write(root);
      const byId = new Map([...criteria(root)].map((criterion) => [criterion.id, criterion]));
      for (const [path, id] of paths) {
        const criterion = byId.get(id);
        const found = path.split(/[.[\]]+/).filter((part) => part !== '').reduce<Json>((node, part) => (node as JsonObject)[part] as Json, written as unknown as JsonObject);
        if (criterion) assert.deepEqual(found, writeCriterion(criterion));
      }
      assert.equal([...paths.values()].filter((id) => byId.has(id)).length, byId.size);
    }),
  );
});

test('incomplete criteria and groups without others are left out', () => {
  const root = read({
    properties: {
      type: 'AND',
      values: [
        { type: 'person', key: '', operator: 'exact', value: 'x' },
        { type: 'OR', values: [{ type: 'person', key: 'plan', operator: 'exact', value: '' }] },
        { type: 'person', key: 'plan', operator: 'is_set' },
      ],
    },
  });
  const written = write(root, (criterion) => problem(criterion) !== undefined);
  assert.deepEqual(written.filters, { properties: { type: 'AND', values: [{ type: 'person', key: 'plan', operator: 'is_set' }] } });
  const last = root.nodes.at(-1);
  assert.ok(last && !isGroup(last));
  assert.equal(written.paths.get('properties.values[0]'), last.id);
});

test('random criteria of every kind can be described', () => {
  fc.assert(fc.property(leaf, (node) => assert.ok(kindOf(node) !== 'none')));
});
