// Edits: an edit of one criterion changes no other one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { add, copy, criteria, duplicate, move, newBehavior, newEvent, newProperty, remove, setJoin, update, wrap } from '../../src/model/edit';
import { criterion, isGroup, read, write, writeCriterion } from '../../src/model/filter';
import type { Group, Json } from '../../src/model/filter';
import { located, problem } from '../../src/model/check';
import { filters } from './arbitrary';

/** A tree with at least one criterion, and one of them. */
const withCriterion = filters
  .map((value) => read(value as Json))
  .filter((root) => [...criteria(root)].length > 0)
  .chain((root) => fc.tuple(fc.constant(root), fc.constantFrom(...criteria(root))));

const texts = (root: Group) => [...criteria(root)].map((node) => JSON.stringify(writeCriterion(node)));

test('removing a criterion leaves all others as they are', () => {
  fc.assert(
    fc.property(withCriterion, ([root, target]) => {
      const before = [...criteria(root)];
      const after = [...criteria(remove(root, target.id))];
      assert.deepEqual(after, before.filter(({ id }) => id !== target.id));
      for (const node of after) assert.ok(before.includes(node), 'the same object');
    }),
  );
});

test('a copy stands after its criterion, and shares no part with it', () => {
  fc.assert(
    fc.property(withCriterion, ([root, target]) => {
      const before = [...criteria(root)];
      const after = [...criteria(duplicate(root, target.id))];
      const at = after.findIndex(({ id }) => id === target.id);
      const twin = after[at + 1];
      assert.ok(twin && twin.id !== target.id && twin.test !== target.test);
      assert.deepEqual(twin.test, target.test);
      assert.deepEqual(after.filter((node) => node !== twin), before);
    }),
  );
});

test('changing a criterion keeps its id and all others', () => {
  fc.assert(
    fc.property(withCriterion, ([root, target]) => {
      const after = [...criteria(update(root, target.id, () => criterion(newEvent(), true)))];
      const changed = after.find(({ id }) => id === target.id);
      assert.ok(changed?.negated && changed.test.kind === 'event');
      assert.deepEqual(after.filter(({ id }) => id !== target.id), [...criteria(root)].filter(({ id }) => id !== target.id));
    }),
  );
});

test('moving and wrapping keep all criteria', () => {
  fc.assert(
    fc.property(withCriterion, fc.constantFrom(-1 as const, 1 as const), ([root, target], step) => {
      assert.deepEqual(texts(move(root, target.id, step)).sort(), texts(root).sort());
      assert.deepEqual(texts(wrap(root, target.id)), texts(root));
      const back = move(move(root, target.id, 1), target.id, -1);
      assert.deepEqual(texts(move(root, target.id, 1)).length, texts(back).length);
    }),
  );
});

test('a wrapped criterion is in a group of the other join', () => {
  const root = read({ properties: { type: 'AND', values: [{ type: 'person', key: 'a', operator: 'is_set' }] } });
  const [target] = criteria(root);
  const [inner] = wrap(root, target?.id ?? 0).nodes;
  assert.ok(inner && isGroup(inner) && inner.join === 'OR' && inner.nodes[0] === target);
});

test('an edit of an unknown node returns the same tree', () => {
  fc.assert(
    fc.property(filters, (value) => {
      const root = read(value as Json);
      for (const edit of [remove(root, -1), duplicate(root, -1), move(root, -1, 1), wrap(root, -1), setJoin(root, -1, 'OR'), add(root, -1, criterion(newProperty()))]) {
        assert.equal(edit, root);
      }
    }),
  );
});

test('a copy of a tree has new ids and the same filter', () => {
  fc.assert(
    fc.property(filters, (value) => {
      const root = read(value as Json);
      const twin = copy(root) as Group;
      assert.deepEqual(write(twin).filters, write(root).filters);
      const ids = new Set([...criteria(root)].map(({ id }) => id));
      for (const { id } of criteria(twin)) assert.ok(!ids.has(id));
    }),
  );
});

test('another kind of behavior keeps what both kinds have', () => {
  const window = { kind: 'last', amount: 5, unit: 'week' } as const;
  const multiple = newBehavior('performed_event_multiple', { kind: 'performed_event', window });
  assert.ok('window' in multiple && multiple.window === window);
  const stopped = newBehavior('stopped_performing_event', multiple);
  assert.deepEqual('outer' in stopped && stopped.outer, { amount: 5, unit: 'week' });
  const again = newBehavior('performed_event', stopped);
  assert.deepEqual('window' in again && again.window, window);
});

test('new criteria are incomplete until the names are there', () => {
  assert.ok(problem(criterion(newEvent())));
  assert.ok(problem(criterion(newProperty())));
});

test('an error of the service names a node', () => {
  assert.deepEqual(located('properties.values[0].values[12]: the pattern: x'), { path: 'properties.values[0].values[12]', reason: 'the pattern: x' });
  assert.deepEqual(located('properties: no'), { path: 'properties', reason: 'no' });
  assert.equal(located('name: too long'), undefined);
});
