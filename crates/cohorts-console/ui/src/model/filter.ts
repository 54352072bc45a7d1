// A filter as a tree of groups and sentences. Reading and writing it are inverse: what the builder cannot show as a
// sentence stays as it is in a criterion of the kind `other`.
//
// Nodes are never changed. Each edit returns a new tree that shares all nodes outside of the path to the edit, so an edit
// of one criterion cannot change another one.

import { BEHAVIORS, COUNT_OPERATORS, OPERATORS, TIME_OPERATORS, UNITS, takesNoValue } from './words';

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export type Join = 'AND' | 'OR';

/** An event by name, or an action by id. */
export interface EventRef {
  type: 'events' | 'actions';
  key: string;
}

export interface Span {
  amount: number | null;
  unit: string;
}

/** A part of the past, by its length or by dates. The first date `all` means all the past. */
export type Window = ({ kind: 'last' } & Span) | { kind: 'dates'; from: string; to: string };

export const EVER: Window = { kind: 'dates', from: 'all', to: '' };
export const isEver = (window: Window) => window.kind === 'dates' && window.from === 'all' && window.to === '';

export interface PropertyTest {
  key: string;
  operator: string;
  /** Absent if the operator takes none. */
  value?: Json;
}

export interface Count {
  operator: string;
  amount: number | null;
}

export type Behavior =
  | { kind: 'performed_event' | 'performed_event_first_time'; window: Window }
  | { kind: 'performed_event_multiple'; count: Count; window: Window }
  | { kind: 'performed_event_sequence'; window: Window; next: EventRef; within: Span }
  | { kind: 'performed_event_regularly'; count: Count; period: Span; periods: number | null; minimum: number | null }
  | { kind: 'stopped_performing_event' | 'restarted_performing_event'; outer: Span; inner: Span };

export type BehaviorKind = Behavior['kind'];

export type Test =
  | ({ kind: 'property' } & PropertyTest)
  | ({ kind: 'created' } & Omit<PropertyTest, 'key'>)
  | { kind: 'cohort'; cohort: number | null }
  | { kind: 'event'; event: EventRef; where: PropertyTest[]; behavior: Behavior }
  | { kind: 'other'; leaf: JsonObject };

export interface Criterion {
  id: number;
  negated: boolean;
  test: Test;
}

export interface Group {
  id: number;
  join: Join;
  nodes: Node[];
}

export type Node = Group | Criterion;

export const isGroup = (node: Node): node is Group => 'nodes' in node;

let lastId = 0;
const nextId = () => (lastId += 1);

export function group(join: Join, nodes: Node[]): Group {
  return { id: nextId(), join, nodes };
}

export function criterion(test: Test, negated = false): Criterion {
  return { id: nextId(), negated, test };
}

/** An error in the text of a filter, with the path of its node. */
export class FilterError extends Error {
  constructor(
    readonly path: string,
    readonly reason: string,
  ) {
    super(`${path}: ${reason}`);
  }
}

// Reading

const DISCARDED = ['bytecode', 'bytecode_error', 'conditionHash'];
const has = (list: { value: string }[], value: Json | undefined) => list.some((choice) => choice.value === value);
const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The tree of `filters`. A filter without criteria is an empty group. */
export function read(filters: Json | undefined): Group {
  if (filters === undefined || filters === null) return group('AND', []);
  if (!isObject(filters)) throw new FilterError('filters', 'expected an object with "properties"');
  const root = filters.properties;
  if (root === undefined) throw new FilterError('filters', 'the key "properties" is missing');
  if (isObject(root) && Object.keys(root).length === 0) return group('AND', []);
  return readGroup(root, 'properties');
}

function readGroup(value: Json | undefined, path: string): Group {
  if (!isObject(value)) throw new FilterError(path, 'expected a group with "type" and "values"');
  const { type, values } = value;
  if (type !== 'AND' && type !== 'OR') throw new FilterError(path, 'the type of a group is "AND" or "OR"');
  if (!Array.isArray(values)) throw new FilterError(path, 'the key "values" needs a list');
  return group(type, values.map((node, at) => readNode(node, `${path}.values[${at}]`)));
}

function readNode(value: Json, path: string): Node {
  if (!isObject(value)) throw new FilterError(path, 'expected a group or a criterion');
  if (value.type === 'AND' || value.type === 'OR') return readGroup(value, path);
  if (typeof value.type !== 'string') throw new FilterError(path, 'the key "type" is missing');
  return readCriterion(value);
}

function readCriterion(leaf: JsonObject): Criterion {
  const fields = new Fields(leaf);
  const negated = fields.flag('negation');
  const test = negated === undefined ? undefined : readTest(fields);
  return test && negated !== undefined && fields.isEmpty()
    ? criterion(test, negated)
    : criterion({ kind: 'other', leaf: clean(leaf) });
}

function clean(leaf: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(leaf).filter(([key]) => !DISCARDED.includes(key)));
}

function readTest(fields: Fields): Test | undefined {
  switch (fields.take('type')) {
    case 'person': {
      const test = readProperty(fields);
      return test && { kind: 'property', ...test };
    }
    case 'person_metadata': {
      const test = readProperty(fields);
      if (!test || test.key !== 'created_at' || !has(TIME_OPERATORS, test.operator)) return undefined;
      const { key: _, ...rest } = test;
      return { kind: 'created', ...rest };
    }
    case 'cohort': {
      const cohort = fields.whole('value');
      return fields.take('key') === 'id' && cohort !== undefined ? { kind: 'cohort', cohort } : undefined;
    }
    case 'behavioral':
      return readBehavioral(fields);
    default:
      return undefined;
  }
}

function readProperty(fields: Fields): PropertyTest | undefined {
  const key = fields.take('key');
  const operator = fields.take('operator') ?? 'exact';
  const value = fields.take('value');
  if (typeof key !== 'string' || typeof operator !== 'string' || !has(OPERATORS, operator)) return undefined;
  if (takesNoValue(operator)) return { key, operator };
  return value === undefined ? undefined : { key, operator, value };
}

function readBehavioral(fields: Fields): Test | undefined {
  const event = readEvent(fields, 'key', 'event_type');
  const where = readWhere(fields);
  const behavior = readBehavior(fields);
  return event && where && behavior && { kind: 'event', event, where, behavior };
}

function readEvent(fields: Fields, keyField: string, typeField: string): EventRef | undefined {
  const key = fields.take(keyField);
  const type = fields.take(typeField);
  if (type === 'events' && typeof key === 'string') return { type, key };
  if (type === 'actions' && (typeof key === 'number' || typeof key === 'string')) return { type, key: String(key) };
  return undefined;
}

function readWhere(fields: Fields): PropertyTest[] | undefined {
  const filters = fields.take('event_filters') ?? [];
  if (!Array.isArray(filters)) return undefined;
  const tests: PropertyTest[] = [];
  for (const filter of filters) {
    if (!isObject(filter) || filter.type !== 'event') return undefined;
    const filterFields = new Fields(filter);
    filterFields.take('type');
    const test = readProperty(filterFields);
    if (!test || !filterFields.isEmpty()) return undefined;
    tests.push(test);
  }
  return tests;
}

function readBehavior(fields: Fields): Behavior | undefined {
  const kind = fields.take('value');
  switch (kind) {
    case 'performed_event':
    case 'performed_event_first_time': {
      const window = readWindow(fields);
      return window && { kind, window };
    }
    case 'performed_event_multiple':
    case 'performed_event_multiple_times': {
      const [count, window] = [readCount(fields), readWindow(fields)];
      return count && window && { kind: 'performed_event_multiple', count, window };
    }
    case 'performed_event_sequence': {
      const window = readWindow(fields);
      const next = readEvent(fields, 'seq_event', 'seq_event_type');
      const within = readSpan(fields, 'seq_time_value', 'seq_time_interval');
      return window && next && within && { kind, window, next, within };
    }
    case 'performed_event_regularly': {
      const [count, period] = [readCount(fields), readSpan(fields, 'time_value', 'time_interval')];
      const [periods, minimum] = [fields.whole('total_periods'), fields.whole('min_periods')];
      if (!count || !period || periods === undefined || minimum === undefined) return undefined;
      return { kind, count, period, periods, minimum };
    }
    case 'stopped_performing_event':
    case 'restarted_performing_event': {
      const outer = readSpan(fields, 'time_value', 'time_interval');
      const inner = readSpan(fields, 'seq_time_value', 'seq_time_interval');
      return outer && inner && { kind, outer, inner };
    }
    default:
      return undefined;
  }
}

function readCount(fields: Fields): Count | undefined {
  const operator = fields.take('operator') ?? 'exact';
  const amount = fields.whole('operator_value');
  const name = operator === 'eq' ? 'exact' : operator;
  return typeof name === 'string' && has(COUNT_OPERATORS, name) && amount !== undefined
    ? { operator: name, amount }
    : undefined;
}

function readSpan(fields: Fields, valueField: string, unitField: string): Span | undefined {
  const amount = fields.whole(valueField);
  const unit = fields.take(unitField);
  return amount !== undefined && typeof unit === 'string' && has(UNITS, unit) ? { amount, unit } : undefined;
}

function readWindow(fields: Fields): Window | undefined {
  const [from, to] = [fields.take('explicit_datetime'), fields.take('explicit_datetime_to')];
  if (from === undefined && to === undefined) {
    const span = readSpan(fields, 'time_value', 'time_interval');
    return span && { kind: 'last', ...span };
  }
  return typeof from === 'string' && (to === undefined || typeof to === 'string')
    ? { kind: 'dates', from, to: to ?? '' }
    : undefined;
}

/** The fields of a criterion that are not read yet. Null means absent, as in the service. */
class Fields {
  private readonly rest: Map<string, Json>;

  constructor(object: JsonObject) {
    const entries = Object.entries(object).filter(([key, value]) => value !== null && !DISCARDED.includes(key));
    this.rest = new Map(entries);
  }

  take(name: string): Json | undefined {
    const value = this.rest.get(name);
    this.rest.delete(name);
    return value;
  }

  /** A whole number, also as text. */
  whole(name: string): number | undefined {
    const value = this.take(name);
    const number = typeof value === 'string' && /^\s*[+-]?\d{1,15}\s*$/.test(value) ? Number(value) : value;
    return typeof number === 'number' && Number.isSafeInteger(number) ? number : undefined;
  }

  /** A truth value, also as text; false if it is absent. */
  flag(name: string): boolean | undefined {
    const value = this.take(name) ?? false;
    if (typeof value === 'boolean') return value;
    const text = String(value).toLowerCase();
    return text === 'true' ? true : text === 'false' ? false : undefined;
  }

  isEmpty(): boolean {
    return this.rest.size === 0;
  }
}

// Writing

export interface Written {
  filters: { properties: JsonObject };
  /** The path of each node, such as `properties.values[0]`. */
  paths: Map<string, number>;
}

/** The filter of a tree. Nodes for which `leaveOut` holds, and groups that become empty, are not written. */
export function write(root: Group, leaveOut: (criterion: Criterion) => boolean = () => false): Written {
  const paths = new Map<string, number>();
  const writeGroup = (group: Group, path: string): JsonObject => {
    paths.set(path, group.id);
    const values: Json[] = [];
    for (const node of group.nodes) {
      if (isLeftOut(node, leaveOut)) continue;
      const nodePath = `${path}.values[${values.length}]`;
      if (isGroup(node)) {
        values.push(writeGroup(node, nodePath));
      } else {
        paths.set(nodePath, node.id);
        values.push(writeCriterion(node));
      }
    }
    return { type: group.join, values };
  };
  return { filters: { properties: writeGroup(root, 'properties') }, paths };
}

function isLeftOut(node: Node, leaveOut: (criterion: Criterion) => boolean): boolean {
  return isGroup(node) ? node.nodes.every((inner) => isLeftOut(inner, leaveOut)) : leaveOut(node);
}

export function writeCriterion({ test, negated }: Criterion): JsonObject {
  const leaf = test.kind === 'other' ? { ...test.leaf } : writeTest(test);
  if (negated) leaf.negation = true;
  return leaf;
}

function writeTest(test: Exclude<Test, { kind: 'other' }>): JsonObject {
  switch (test.kind) {
    case 'property':
      return { type: 'person', ...writeProperty(test) };
    case 'created':
      return { type: 'person_metadata', ...writeProperty({ ...test, key: 'created_at' }) };
    case 'cohort':
      return { type: 'cohort', key: 'id', value: test.cohort };
    case 'event': {
      const { event, where, behavior } = test;
      const leaf: JsonObject = {
        type: 'behavioral',
        ...writeEvent(event, 'key', 'event_type'),
        value: behavior.kind,
        ...writeBehavior(behavior),
      };
      if (where.length > 0) leaf.event_filters = where.map((part) => ({ type: 'event', ...writeProperty(part) }));
      return leaf;
    }
  }
}

function writeProperty({ key, operator, value }: PropertyTest): JsonObject {
  return value === undefined ? { key, operator } : { key, operator, value };
}

function writeEvent({ type, key }: EventRef, keyField: string, typeField: string): JsonObject {
  const id = type === 'actions' && /^\d{1,15}$/.test(key) ? Number(key) : key;
  return { [keyField]: id, [typeField]: type };
}

function writeSpan({ amount, unit }: Span, valueField: string, unitField: string): JsonObject {
  return { [valueField]: amount, [unitField]: unit };
}

function writeWindow(window: Window): JsonObject {
  if (window.kind === 'last') return writeSpan(window, 'time_value', 'time_interval');
  const dates: JsonObject = { explicit_datetime: window.from };
  if (window.to !== '') dates.explicit_datetime_to = window.to;
  return dates;
}

function writeBehavior(behavior: Behavior): JsonObject {
  switch (behavior.kind) {
    case 'performed_event':
    case 'performed_event_first_time':
      return writeWindow(behavior.window);
    case 'performed_event_multiple':
      return { ...writeCount(behavior.count), ...writeWindow(behavior.window) };
    case 'performed_event_sequence':
      return {
        ...writeWindow(behavior.window),
        ...writeEvent(behavior.next, 'seq_event', 'seq_event_type'),
        ...writeSpan(behavior.within, 'seq_time_value', 'seq_time_interval'),
      };
    case 'performed_event_regularly':
      return {
        ...writeCount(behavior.count),
        ...writeSpan(behavior.period, 'time_value', 'time_interval'),
        total_periods: behavior.periods,
        min_periods: behavior.minimum,
      };
    case 'stopped_performing_event':
    case 'restarted_performing_event':
      return {
        ...writeSpan(behavior.outer, 'time_value', 'time_interval'),
        ...writeSpan(behavior.inner, 'seq_time_value', 'seq_time_interval'),
      };
  }
}

function writeCount({ operator, amount }: Count): JsonObject {
  return { operator, operator_value: amount };
}

export const isBehaviorKind = (value: string): value is BehaviorKind => has(BEHAVIORS, value) || value === 'performed_event_multiple';
