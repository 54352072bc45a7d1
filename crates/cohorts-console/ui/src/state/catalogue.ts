// Cohorts and actions by name, and the names that cohorts and the persons created last have. They stay for the session. The
// latter are suggested if the key may not read the catalogue of the project.

import { signal } from '@preact/signals';
import { actions, cohorts, people } from '../api/resources';
import { isGroup, read } from '../model/filter';
import type { Group, Json, PropertyTest } from '../model/filter';
import type { Action, Cohort } from '../api/types';
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

/** Marks the id of an action in a list of events. */
export const ACTION = 'action\u0000';

export const cohortName = (id: number) => {
  const cohort = catalogue.value.cohorts.find((other) => other.id === id);
  return cohort && (cohort.name ?? 'Unnamed');
};
export const actionName = (id: string) => catalogue.value.actions.find((action) => String(action.id) === id)?.name ?? undefined;
export const names = { cohort: cohortName, action: actionName };
