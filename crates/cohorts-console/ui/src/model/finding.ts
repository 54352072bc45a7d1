// What a criterion looked for in the data of a person, and what it found, in words.

import { during, eventName, show, text } from './sentence';
import type { Names } from './sentence';
import type { Behavior, Criterion, Json } from './filter';

const QUERY = 'query';

/** The words for a query, which has one finding for all of it; `undefined` for other paths. */
export function queryWords(path: string, holds: boolean): string | undefined {
  if (path !== QUERY) return undefined;
  return holds ? 'The query selects this person.' : 'The query does not select this person.';
}

/** The events that a criterion found, such as `no purchase event in the last 30 days`. */
export function eventsWords(criterion: Criterion | undefined, count: number, names: Names): string {
  const number = count === 0 ? 'no' : count.toLocaleString('en');
  const noun = count === 1 || count === 0 ? 'event' : 'events';
  if (criterion?.test.kind !== 'event') return `found: ${number} ${noun}`;
  const { event, where, behavior } = criterion.test;
  // The events of a sequence have two names.
  const name = behavior.kind === 'performed_event_sequence' ? `${eventName(event, names)} or ${eventName(behavior.next, names)}` : eventName(event, names);
  const conditions = where.length === 0 || behavior.kind === 'performed_event_first_time' ? '' : where.length === 1 ? ' with the property' : ' with the properties';
  return `found: ${number} ${name} ${noun}${conditions}${windowWords(behavior)}`;
}

function windowWords(behavior: Behavior): string {
  switch (behavior.kind) {
    case 'performed_event':
    case 'performed_event_multiple':
    case 'performed_event_sequence':
      return ` ${text(during(behavior.window))}`;
    case 'performed_event_first_time':
      return ' so far';
    default:
      return ' in this time';
  }
}

/** The value of a property that a criterion found. */
export function valueWords(criterion: Criterion | undefined, value: Json | undefined): string {
  const key = criterion?.test.kind === 'property' ? criterion.test.key : undefined;
  if (value === null || value === undefined) return `found: the person has no ${key ?? 'value'}`;
  return `found: ${key === undefined ? '' : `${key} is `}${show(value)}`;
}
