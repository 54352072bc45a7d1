// Edits of a tree. Each returns a new tree, and shares all nodes that the edit does not concern.

import { criterion, group, isEver, isGroup } from './filter';
import type { Behavior, BehaviorKind, Count, Criterion, EventRef, Group, Join, Node, Span, Test, Window } from './filter';

/** Replaces the node with this id by zero or more nodes. */
function replace(root: Group, id: number, replacement: (node: Node) => Node[]): Group {
  let changed = false;
  const nodes = root.nodes.flatMap((node) => {
    if (node.id === id) {
      changed = true;
      return replacement(node);
    }
    if (!isGroup(node)) return [node];
    const inner = replace(node, id, replacement);
    changed ||= inner !== node;
    return [inner];
  });
  return changed ? { ...root, nodes } : root;
}

export function remove(root: Group, id: number): Group {
  return replace(root, id, () => []);
}

/** Adds a copy after the node. */
export function duplicate(root: Group, id: number): Group {
  return replace(root, id, (node) => [node, copy(node)]);
}

export function copy(node: Node): Node {
  return isGroup(node) ? group(node.join, node.nodes.map(copy)) : criterion(structuredClone(node.test), node.negated);
}

export function update(root: Group, id: number, change: (criterion: Criterion) => Criterion): Group {
  return replace(root, id, (node) => [isGroup(node) ? node : { ...change(node), id }]);
}

/** Adds a node at the end of the group with this id. */
export function add(root: Group, groupId: number, node: Node): Group {
  const append = (target: Group): Group => ({ ...target, nodes: [...target.nodes, node] });
  if (root.id === groupId) return append(root);
  return replace(root, groupId, (target) => [isGroup(target) ? append(target) : target]);
}

export function setJoin(root: Group, groupId: number, join: Join): Group {
  if (root.id === groupId) return { ...root, join };
  return replace(root, groupId, (target) => [isGroup(target) ? { ...target, join } : target]);
}

/** Moves a node by one place within its group. */
export function move(root: Group, id: number, step: -1 | 1): Group {
  const at = root.nodes.findIndex((node) => node.id === id);
  if (at >= 0) {
    const to = at + step;
    const [from, other] = [root.nodes[at], root.nodes[to]];
    if (!from || !other) return root;
    const nodes = [...root.nodes];
    [nodes[at], nodes[to]] = [other, from];
    return { ...root, nodes };
  }
  let changed = false;
  const nodes = root.nodes.map((node) => {
    const inner = isGroup(node) ? move(node, id, step) : node;
    changed ||= inner !== node;
    return inner;
  });
  return changed ? { ...root, nodes } : root;
}

/** Puts a criterion into a new group of the other join, so that an alternative can be added. */
export function wrap(root: Group, id: number): Group {
  const wrapIn = (parent: Group): Group | undefined => {
    for (const node of parent.nodes) {
      if (node.id === id) {
        const join = parent.join === 'AND' ? 'OR' : 'AND';
        return { ...parent, nodes: parent.nodes.map((other) => (other.id === id ? group(join, [other]) : other)) };
      }
      const inner = isGroup(node) ? wrapIn(node) : undefined;
      if (inner) return { ...parent, nodes: parent.nodes.map((other) => (other.id === node.id ? inner : other)) };
    }
    return undefined;
  };
  return wrapIn(root) ?? root;
}

export function* criteria(root: Group): Generator<Criterion> {
  for (const node of root.nodes) {
    if (isGroup(node)) yield* criteria(node);
    else yield node;
  }
}

// New parts of sentences

const DAYS_30: Span = { amount: 30, unit: 'day' };
/** What `performed_event` means, which has no number. */
const ONCE: Count = { operator: 'gte', amount: 1 };
const NO_EVENT: EventRef = { type: 'events', key: '' };

export const newProperty = (): Test => ({ kind: 'property', key: '', operator: 'exact', value: '' });
export const newCreated = (): Test => ({ kind: 'created', operator: 'is_date_after', value: '-30d' });
export const newCohort = (): Test => ({ kind: 'cohort', cohort: null });
export const newEvent = (): Test => ({
  kind: 'event',
  event: NO_EVENT,
  where: [],
  behavior: newBehavior('performed_event'),
});

/** A behavior of another kind, with the parts that both kinds have. */
export function newBehavior(kind: BehaviorKind, former?: Behavior): Behavior {
  const window = formerWindow(former);
  const span = window.kind === 'last' ? { amount: window.amount, unit: window.unit } : DAYS_30;
  const count = former && 'count' in former ? former.count : ONCE;
  switch (kind) {
    case 'performed_event':
    case 'performed_event_first_time':
      return { kind, window };
    case 'performed_event_multiple':
      return { kind, count, window };
    case 'performed_event_sequence':
      return { kind, window, next: NO_EVENT, within: { amount: 7, unit: 'day' } };
    case 'performed_event_regularly':
      return { kind, count: { ...count, amount: 1 }, period: { amount: 1, unit: 'week' }, periods: 4, minimum: 3 };
    case 'stopped_performing_event':
    case 'restarted_performing_event': {
      const inner = former && 'inner' in former ? former.inner : { amount: 7, unit: 'day' };
      return { kind, outer: former && 'outer' in former ? former.outer : span, inner };
    }
  }
}

/** How often an event occurred, as far as the sentence of the behavior has a number for it. */
export function countOf(behavior: Behavior): Count | undefined {
  if (behavior.kind === 'performed_event') return ONCE;
  return 'count' in behavior ? behavior.count : undefined;
}

/**
 * The behavior with another number of times. "At least 1 time" becomes `performed_event`, but not below a "not": its
 * sentence has no number, so the field would disappear during typing.
 */
export function withCount(behavior: Behavior, count: Count, isNegated: boolean): Behavior {
  if (behavior.kind !== 'performed_event' && behavior.kind !== 'performed_event_multiple') {
    return 'count' in behavior ? { ...behavior, count } : behavior;
  }
  const { window } = behavior;
  const isOnce = count.operator === ONCE.operator && count.amount === ONCE.amount;
  return isOnce && !isNegated ? { kind: 'performed_event', window } : { kind: 'performed_event_multiple', count, window };
}

/** Whether a negated criterion reads "never did": it has no event at all. */
export const isNever = (behavior: Behavior, isNegated: boolean) => isNegated && behavior.kind === 'performed_event' && isEver(behavior.window);

function formerWindow(former: Behavior | undefined): Window {
  if (former && 'window' in former) return former.window;
  if (former && 'outer' in former) return { kind: 'last', ...former.outer };
  return { kind: 'last', ...DAYS_30 };
}
