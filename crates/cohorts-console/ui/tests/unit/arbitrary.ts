// Random criteria and filters of every kind, as the service accepts them.

import fc from 'fast-check';
import type { Json, JsonObject } from '../../src/model/filter';
import { BEHAVIORS, COUNT_OPERATORS, OPERATORS, TIME_OPERATORS, UNITS, takesNoValue } from '../../src/model/words';

const of = (list: { value: string }[]) => fc.constantFrom(...list.map(({ value }) => value));
const name = fc.oneof(fc.string(), fc.string({ unit: 'grapheme' }), fc.constantFrom('$pageview', '<b>x</b>', '"', '\n', 'a'.repeat(500)));
const whole = fc.integer({ min: 1, max: 10_000 });
const scalar = fc.oneof(fc.string(), fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? 0 : value)), fc.boolean());
const value: fc.Arbitrary<Json> = fc.oneof<fc.Arbitrary<Json>[]>(scalar, fc.array(scalar, { maxLength: 4 }), fc.constant<Json>({ a: [1, { b: 'x' }] }));
const negation = fc.constantFrom<JsonObject>({}, { negation: true });

function property(type: string, operators: { value: string }[], key: fc.Arbitrary<string>): fc.Arbitrary<JsonObject> {
  return fc.record({ key, operator: of(operators), value }).map(({ key, operator, value }): JsonObject => ({
    type,
    key,
    operator,
    ...(takesNoValue(operator) ? {} : { value }),
  }));
}

const event = fc.oneof(
  name.map((key) => ({ key, type: 'events' })),
  whole.map((key) => ({ key, type: 'actions' })),
);
const span = (valueField: string, unitField: string) =>
  fc.record({ amount: whole, unit: of(UNITS) }).map(({ amount, unit }) => ({ [valueField]: amount, [unitField]: unit }));
const last = span('time_value', 'time_interval');
const window = fc.oneof(
  last,
  fc.record({ explicit_datetime: fc.constantFrom('all', '-30d', '2026-01-31', '2026-01-31T10:00:00Z') }),
  fc.record({ explicit_datetime: fc.constant('-30d'), explicit_datetime_to: fc.constantFrom('-1d', '2026-02-01') }),
);
const count = fc.record({ operator: of(COUNT_OPERATORS), operator_value: whole });
const next = event.map(({ key, type }) => ({ seq_event: key, seq_event_type: type }));
const inner = span('seq_time_value', 'seq_time_interval');
const periods = fc.record({ total_periods: whole, min_periods: whole });

const merge = (...parts: fc.Arbitrary<object>[]) => fc.tuple(...parts).map((objects) => Object.assign({}, ...objects) as JsonObject);

const FIELDS: Record<string, fc.Arbitrary<JsonObject>> = {
  performed_event: merge(window),
  performed_event_multiple: merge(count, window),
  performed_event_first_time: merge(window),
  performed_event_sequence: merge(window, next, inner),
  performed_event_regularly: merge(count, last, periods),
  stopped_performing_event: merge(last, inner),
  restarted_performing_event: merge(last, inner),
};

/** All kinds of behavior that the service knows, without the alias. */
export const BEHAVIOR_KINDS = [...BEHAVIORS.map((behavior) => behavior.value), 'performed_event_multiple'];

export function behavioral(kind: string): fc.Arbitrary<JsonObject> {
  const fields = FIELDS[kind];
  if (!fields) throw new Error(`no fields for ${kind}`);
  const filters = fc.array(property('event', OPERATORS, name), { maxLength: 3 });
  return fc.tuple(event, fields, filters, negation).map(([{ key, type }, rest, where, not]): JsonObject => ({
    type: 'behavioral',
    key,
    event_type: type,
    value: kind,
    ...rest,
    ...(where.length > 0 ? { event_filters: where } : {}),
    ...not,
  }));
}

const negatable = (leaf: fc.Arbitrary<JsonObject>) => fc.tuple(leaf, negation).map(([fields, not]): JsonObject => ({ ...fields, ...not }));

export const person = negatable(property('person', OPERATORS, name));
export const metadata = negatable(property('person_metadata', TIME_OPERATORS, fc.constant('created_at')));
export const cohort = negatable(whole.map((id): JsonObject => ({ type: 'cohort', key: 'id', value: id })));

/** A criterion that no sentence can express. */
export const other = fc.constantFrom<JsonObject>(
  { type: 'person', key: 'plan', operator: 'of_a_later_version', value: 'x' },
  { type: 'behavioral', key: 'x', event_type: 'events', value: 'of_a_later_version', time_value: 3 },
  { type: 'behavioral', key: 'x', event_type: 'events', value: 'performed_event', time_value: 3, time_interval: 'minute' },
  { type: 'behavioral', key: 'x', event_type: 'events', value: 'performed_event', time_value: 3, time_interval: 'day', total_periods: 1 },
  { type: 'hogql', key: '1 = 1', value: true, nested: [1, { a: 'b' }] },
);

export const leaf: fc.Arbitrary<JsonObject> = fc.oneof(person, metadata, cohort, other, ...BEHAVIOR_KINDS.map(behavioral));

const { tree } = fc.letrec<{ tree: JsonObject; node: JsonObject }>((tie) => ({
  tree: fc.record({
    type: fc.constantFrom('AND', 'OR'),
    values: fc.array(tie('node'), { maxLength: 4 }) as fc.Arbitrary<JsonObject[]>,
  }) as fc.Arbitrary<JsonObject>,
  node: fc.oneof({ maxDepth: 4 }, leaf, tie('tree')),
}));

export const filters = tree.map((properties) => ({ properties }));
