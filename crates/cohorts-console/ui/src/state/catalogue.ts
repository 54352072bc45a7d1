// Names that the builder suggests: events, properties, cohorts and actions. They come from the definitions of the project's
// cohorts and from the persons created last, and stay for the session.

import { signal } from '@preact/signals';
import { actions, cohorts, people } from '../api/resources';
import { isGroup, read } from '../model/filter';
import type { Group, Json, PropertyTest } from '../model/filter';
import type { Action, Cohort } from '../api/types';
import type { Suggestion } from '../parts/suggest';
import { number } from '../parts/format';
import { session } from './session';

interface Catalogue {
  project: number;
  cohorts: Cohort[];
  actions: Action[];
  events: Map<string, number>;
  eventProperties: Map<string, number>;
  personProperties: Map<string, number>;
}

const EMPTY: Catalogue = {
  project: 0,
  cohorts: [],
  actions: [],
  events: new Map(),
  eventProperties: new Map(),
  personProperties: new Map(),
};
const SAMPLE = 100;
const MOST = 12;

export const catalogue = signal<Catalogue>(EMPTY);

/** Loads the names. What the key may not read stays empty. */
export async function loadCatalogue(signal?: AbortSignal): Promise<void> {
  const project = session.peek()?.project.id ?? 0;
  const [allCohorts, allActions, sample] = await Promise.all([
    cohorts.all(signal).catch(() => []),
    actions.all(signal).catch(() => []),
    people.page({ limit: SAMPLE, offset: 0 }, signal).then(({ results }) => results, () => []),
  ]);
  const next: Catalogue = {
    ...EMPTY,
    project,
    cohorts: allCohorts,
    actions: allActions,
    events: new Map(),
    eventProperties: new Map(),
    personProperties: new Map(),
  };
  for (const person of sample) {
    for (const key of Object.keys(person.properties)) count(next.personProperties, key);
  }
  for (const cohort of allCohorts) collect(cohort, next);
  for (const action of allActions) {
    for (const step of action.steps ?? []) if (typeof step.event === 'string') count(next.events, step.event);
  }
  if (!signal?.aborted) catalogue.value = next;
}

const count = (names: Map<string, number>, name: string) => names.set(name, (names.get(name) ?? 0) + 1);

function collect(cohort: Cohort, into: Catalogue): void {
  try {
    walk(read(cohort.filters as Json), into);
  } catch {
    // A filter that this version cannot read gives no names.
  }
}

function walk(group: Group, into: Catalogue): void {
  for (const node of group.nodes) {
    if (isGroup(node)) {
      walk(node, into);
      continue;
    }
    const { test } = node;
    if (test.kind === 'property') count(into.personProperties, test.key);
    if (test.kind !== 'event') continue;
    if (test.event.type === 'events') count(into.events, test.event.key);
    if ('next' in test.behavior && test.behavior.next.type === 'events') count(into.events, test.behavior.next.key);
    for (const { key } of test.where as PropertyTest[]) count(into.eventProperties, key);
  }
}

function matching(names: Map<string, number>, text: string): Suggestion[] {
  const wanted = text.toLowerCase();
  const found = [...names].filter(([name]) => name !== '' && name.toLowerCase().includes(wanted));
  found.sort(([a, x], [b, y]) => y - x || a.localeCompare(b));
  return found.slice(0, MOST).map(([value]) => ({ value }));
}

/** Marks the id of an action in a list of events. */
export const ACTION = 'action\u0000';

/** Events by name, then actions. */
export async function suggestEvents(text: string): Promise<Suggestion[]> {
  const { events, actions: all } = catalogue.peek();
  const wanted = text.toLowerCase();
  const found = all.filter(({ name }) => name?.toLowerCase().includes(wanted));
  const listed = found.slice(0, MOST).map(({ id, name }) => ({ value: `${ACTION}${id}`, label: name ?? `action ${id}`, note: 'action' }));
  return [...matching(events, text), ...listed];
}

export const suggestEventProperties = async (text: string) => matching(catalogue.peek().eventProperties, text);
export const suggestPersonProperties = async (text: string) => matching(catalogue.peek().personProperties, text);

/** Values of a person property, with the number of persons. */
export async function suggestPersonValues(key: string, text: string, signal: AbortSignal): Promise<Suggestion[]> {
  if (key === '') return [];
  const values = await people.values(key, text, signal);
  return values.slice(0, MOST).map(({ name, count: amount }) => ({ value: name, note: number(amount) }));
}

export const suggestNothing = async (): Promise<Suggestion[]> => [];

export const cohortName = (id: number) => {
  const cohort = catalogue.value.cohorts.find((other) => other.id === id);
  return cohort && (cohort.name ?? 'Unnamed');
};
export const actionName = (id: string) => catalogue.value.actions.find((action) => String(action.id) === id)?.name ?? undefined;
export const names = { cohort: cohortName, action: actionName };
