// Names and values to suggest during typing, from the catalogue of the project. A pause in typing precedes each request, the
// next key ends it, and its answer stays for a minute. What cannot be listed is a hint: any text may be typed.

import { signal } from '@preact/signals';
import { definitions, people } from '../api/resources';
import { ApiError, isAbort } from '../api/error';
import { waitFor } from '../api/client';
import type { PropertyDefinition } from '../api/types';
import { begins, nearestFirst } from '../model/names';
import type { Suggestion, Suggestions } from '../parts/suggest';
import { number } from '../parts/format';
import { ACTION, catalogue } from './catalogue';
import { session } from './session';

/** Milliseconds without a key before a request. */
const PAUSE = 120;
const LIFETIME = 60_000;
const MOST_ANSWERS = 500;
/** Most names of one request. */
const NAMES = 200;
/** The service lists at most this number of values. */
const VALUES = 20;

/** The project that has more names than the service stores. */
const limited = signal<number | undefined>(undefined);
export const isLimited = () => limited.value !== undefined && limited.value === session.value?.project.id;

interface Answer extends Suggestions {
  /** Whether the list has each match, so that it also answers for a longer text. */
  isComplete: boolean;
}

interface Request {
  /** What is asked for, without the text. */
  subject: unknown[];
  load: (text: string, signal: AbortSignal) => Promise<Answer>;
  /** Whether a name matches the text, as the service decides it. */
  matches: (name: string, text: string) => boolean;
  /** Shown if the key lacks a scope, or the service cannot answer. */
  instead?: () => Suggestion[];
  what: string;
}

const answers = new Map<string, { until: number; answer: Answer }>();

async function ask(request: Request, text: string, signal: AbortSignal): Promise<Suggestions> {
  const project = session.peek()?.project.id;
  const keyOf = (part: string) => JSON.stringify([project, ...request.subject, part.toLowerCase()]);
  const known = recall(request, text, keyOf);
  if (known) return known;
  await waitFor(PAUSE, signal);
  try {
    const answer = await request.load(text, signal);
    remember(keyOf(text), answer);
    return answer;
  } catch (error) {
    if (isAbort(error)) throw error;
    return refused(error, request, text, (part, answer) => remember(keyOf(part), answer));
  }
}

/** The answer for the text, or a complete one for the beginning of it. */
function recall({ matches }: Request, text: string, keyOf: (part: string) => string): Suggestions | undefined {
  for (let end = text.length; end >= 0; end -= 1) {
    const found = answers.get(keyOf(text.slice(0, end)));
    if (!found || found.until < Date.now()) continue;
    const { answer } = found;
    if (end === text.length) return answer;
    if (!answer.isComplete) continue;
    const list = answer.list.filter((suggestion) => matches(nameOf(suggestion), text));
    return { ...answer, list: nearestFirst(list, text, nameOf) };
  }
  return undefined;
}

function remember(key: string, answer: Answer): void {
  answers.delete(key);
  answers.set(key, { until: Date.now() + LIFETIME, answer });
  const [oldest] = answers.keys();
  if (answers.size > MOST_ANSWERS && oldest !== undefined) answers.delete(oldest);
}

const nameOf = ({ label, value }: Suggestion) => label ?? value;

function refused(error: unknown, { what, instead = () => [], matches }: Request, text: string, keep: (part: string, answer: Answer) => void): Suggestions {
  const list = instead();
  const shown = list.filter((suggestion) => matches(nameOf(suggestion), text));
  if (!(error instanceof ApiError)) return { list: shown };
  if (error.code === 'too_many_values') {
    const answer = { list: [], hint: 'There are more than 10,000 values. Type the beginning of one.', isComplete: false };
    keep(text, answer);
    return answer;
  }
  if (error.scope !== undefined) {
    const hint = `The key lacks the scope ${error.scope}, so ${what} are not suggested. You can type any.`;
    keep('', { list, hint, isComplete: true });
    return { list: shown, hint };
  }
  return { list: shown, hint: `The service cannot list ${what} now. You can type any.` };
}

const hasWords = (name: string, text: string) => {
  const lower = name.toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => lower.includes(word));
};

function page(text: string, list: Suggestion[], count: number, isAtLimit: boolean | undefined): Answer {
  if (isAtLimit) limited.value = session.peek()?.project.id;
  const isComplete = count <= list.length;
  const hint = isComplete ? undefined : `${number(list.length)} of ${number(count)} names. Type more to see others.`;
  return { list: nearestFirst(list, text, nameOf), hint, isComplete };
}

const fromCohorts = (names: Map<string, number>): Suggestion[] =>
  nearestFirst([...names.keys()].filter((name) => name !== '').sort(), '', (name) => name).map((value) => ({ value }));

const EVENTS: Request = {
  subject: ['events'],
  what: 'names of events',
  matches: hasWords,
  instead: () => fromCohorts(catalogue.peek().events),
  async load(search, signal) {
    const { results, count, limit_reached: isAtLimit } = await definitions.events({ search, limit: NAMES }, signal);
    return page(search, results.map(({ name }) => ({ value: name })), count, isAtLimit);
  },
};

export const suggestEventNames = (text: string, signal: AbortSignal) => ask(EVENTS, text, signal);

/** Events by name, then actions. */
export async function suggestEvents(text: string, signal: AbortSignal): Promise<Suggestions> {
  const named = catalogue.peek().actions.map(({ id, name }) => ({ value: `${ACTION}${id}`, label: name || `action ${id}`, note: 'action' }));
  const events = await suggestEventNames(text, signal);
  return { ...events, list: [...events.list, ...named.filter(({ label }) => hasWords(label, text))] };
}

const TYPES = { String: 'text', Numeric: 'number', Boolean: 'true or false', DateTime: 'date' };

function suggestionOf({ name, property_type: type, is_seen_on_filtered_events: isSeen }: PropertyDefinition): Suggestion {
  const words = [...(type === null ? [] : [TYPES[type]]), ...(isSeen === false ? ['of other events'] : [])].join(', ');
  return { value: name, ...(words === '' ? {} : { note: words }) };
}

/** Properties of events; those of the event come first. */
export function suggestEventProperties(event: string) {
  const names = event === '' ? undefined : JSON.stringify([event]);
  const request: Request = {
    subject: ['event properties', event],
    what: 'names of properties',
    matches: hasWords,
    instead: () => fromCohorts(catalogue.peek().eventProperties),
    async load(search, signal) {
      const query = { type: 'event', event_names: names, search, limit: NAMES };
      const { results, count, limit_reached: isAtLimit } = await definitions.properties(query, signal);
      return page(search, results.map(suggestionOf), count, isAtLimit);
    },
  };
  return (text: string, signal: AbortSignal) => ask(request, text, signal);
}

const PERSON_PROPERTIES: Request = {
  subject: ['person properties'],
  what: 'names of properties',
  matches: hasWords,
  instead: () => fromCohorts(catalogue.peek().personProperties),
  async load(search, signal) {
    const { results, count, limit_reached: isAtLimit } = await definitions.properties({ type: 'person', search, limit: NAMES }, signal);
    return page(search, results.map(suggestionOf), count, isAtLimit);
  },
};

export const suggestPersonProperties = (text: string, signal: AbortSignal) => ask(PERSON_PROPERTIES, text, signal);

type Values = { name: string; count: number }[];

function valuesOf(subject: unknown[], load: (value: string, signal: AbortSignal) => Promise<Values>) {
  const request: Request = {
    subject,
    what: 'values',
    matches: begins,
    async load(text, signal) {
      const values = await load(text, signal);
      return { list: values.map(({ name, count }) => ({ value: name, note: number(count) })), isComplete: values.length < VALUES };
    },
  };
  return (text: string, signal: AbortSignal) => ask(request, text, signal);
}

/** Values of a person property, with the number of persons. */
export const suggestPersonValues = (key: string) =>
  key === '' ? suggestNothing : valuesOf(['person values', key], (value, signal) => people.values(key, value, signal));

/** Values of a property of an event, with the number of events. */
export const suggestEventValues = (key: string, event: string) =>
  key === '' ? suggestNothing : valuesOf(['event values', key, event], (value, signal) => definitions.eventValues(key, event, value, signal));

export const suggestNothing = async (): Promise<Suggestions> => ({ list: [] });
