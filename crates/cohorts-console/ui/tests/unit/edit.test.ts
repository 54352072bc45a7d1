// Edits: an edit of one criterion changes no other one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { add, copy, countOf, criteria, duplicate, isNever, move, newBehavior, newEvent, newProperty, remove, setJoin, update, withCount, wrap } from '../../src/model/edit';
import { EVER, criterion, isGroup, read, write, writeCriterion } from '../../src/model/filter';
import type { Behavior, Group, Json } from '../../src/model/filter';
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

const WINDOW = { kind: 'last', amount: 30, unit: 'day' } as const;
const COUNTS = fc.record({ operator: fc.constantFrom('gte', 'lte', 'gt', 'lt', 'exact'), amount: fc.option(fc.integer({ min: 1, max: 9 })) }, { noNullPrototype: true });

test('at least 1 time has no number in the filter, and any other number has one', () => {
  const once: Behavior = { kind: 'performed_event', window: WINDOW };
  assert.deepEqual(countOf(once), { operator: 'gte', amount: 1 });
  fc.assert(
    fc.property(COUNTS, fc.boolean(), (count, isNegated) => {
      const changed = withCount(once, count, isNegated);
      const isOnce = count.operator === 'gte' && count.amount === 1;
      assert.equal(changed.kind, isOnce && !isNegated ? 'performed_event' : 'performed_event_multiple');
      assert.deepEqual(countOf(changed), count);
      assert.ok('window' in changed && changed.window === WINDOW);
      assert.deepEqual(withCount(changed, { operator: 'gte', amount: 1 }, false), once);
    }),
  );
});

test('a number of times below a "not" keeps its field during typing', () => {
  const saved: Behavior = { kind: 'performed_event_multiple', count: { operator: 'gte', amount: 2 }, window: WINDOW };
  assert.equal(withCount(saved, { operator: 'gte', amount: 1 }, true).kind, 'performed_event_multiple');
});

test('the number of an event in each period changes no other part', () => {
  const regularly = newBehavior('performed_event_regularly');
  assert.deepEqual(withCount(regularly, { operator: 'lt', amount: 4 }, false), { ...regularly, count: { operator: 'lt', amount: 4 } });
});

test('never is a negated event at any time', () => {
  const behavior: Behavior = { kind: 'performed_event', window: EVER };
  assert.ok(isNever(behavior, true));
  assert.ok(!isNever(behavior, false));
  assert.ok(!isNever({ ...behavior, window: WINDOW }, true));
  assert.ok(!isNever({ ...behavior, window: { kind: 'dates', from: 'all', to: '2026-01-31' } }, true));
  assert.ok(!isNever({ kind: 'performed_event_multiple', count: { operator: 'gte', amount: 1 }, window: EVER }, true));
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
