// The requests of the screens, by resource.

import { api } from '../state/session';
import { call, send } from './client';
import type {
  ActivityPage, Calculation, CalculationPage, ChangePage, Cohort, CohortExplanation, CohortOverlap, CohortPreview, CohortSizes, ComparedPersons,
  EventValue, PaginatedActionList, PaginatedCohortList, PaginatedEventDefinitionList, PaginatedPropertyDefinitionList, Person, PersonCohorts, PersonEventPage, PersonPage,
  PersonValue, Upload, UsedIn, Webhook, WebhookDelivery, WebhookDeliveryPage, WebhookPage,
} from './types';

type Signal = AbortSignal | undefined;

/** Most rows of one request for a list. */
const ROWS = 1_000;

export const cohorts = {
  async all(signal?: Signal): Promise<Cohort[]> {
    const rows: Cohort[] = [];
    for (;;) {
      const query = { limit: ROWS, offset: rows.length };
      const page = await call<PaginatedCohortList>(api('cohorts/'), { query, signal });
      rows.push(...(page.results as Cohort[]));
      if (page.next === null || page.results.length === 0) return rows;
    }
  },
  get: (id: number, signal?: Signal) => call<Cohort>(api(`cohorts/${id}/`), { signal }),
  create: (body: object) => call<Cohort>(api('cohorts/'), { method: 'POST', body }),
  update: (id: number, body: object) => call<Cohort>(api(`cohorts/${id}/`), { method: 'PATCH', body }),
  copyMembers: (id: number) => call<Cohort>(api(`cohorts/${id}/duplicate_as_static_cohort/`), { method: 'GET', isRead: false }),
  sizes: (id: number, interval: string, signal?: Signal, from?: string) =>
    call<CohortSizes>(api(`cohorts/${id}/sizes/`), { query: { interval, from }, signal }),
  overlap: (ids: number[], signal?: Signal) =>
    call<CohortOverlap>(api('cohorts/overlap/'), { method: 'POST', body: { cohort_ids: ids }, isRead: true, signal }),
  /** Without `other`, the members are compared with all other persons. */
  compare: (id: number, other: number | undefined, signal?: Signal) =>
    call<ComparedPersons>(api(`cohorts/${id}/compare/`), { method: 'POST', body: { with: other }, isRead: true, signal }),
  uses: (id: number, signal?: Signal) => call<UsedIn>(api(`cohorts/${id}/used_in/`), { signal }),
  /** With `saved`, the preview also has the difference from that cohort. */
  preview: (what: { filters: object } | { query: object }, sample: number, signal?: Signal, saved?: number) =>
    call<CohortPreview>(api('cohorts/preview/'), { method: 'POST', body: { ...what, sample, compare_to: saved }, isRead: true, signal }),
  explain: (id: number, person: string, signal?: Signal) =>
    call<CohortExplanation>(api(`cohorts/${id}/explain/`), { query: { person_id: person }, signal }),
  activity: (id: number, signal?: Signal) =>
    call<ActivityPage>(api(`cohorts/${id}/activity/`), { query: { limit: 200 }, signal }),
  allActivity: (signal?: Signal) => call<ActivityPage>(api('cohorts/activity/'), { query: { limit: ROWS }, signal }),
  async calculations(id: number, signal?: Signal): Promise<Calculation[]> {
    const page = await call<CalculationPage>(api(`cohorts/${id}/calculation_history/`), { query: { limit: 100 }, signal });
    return page.results;
  },
  addPersons: (id: number, persons: string[]) =>
    call(api(`cohorts/${id}/add_persons_to_static_cohort/`), { method: 'PATCH', body: { person_ids: persons } }),
  removePerson: (id: number, person: string) =>
    call(api(`cohorts/${id}/remove_person_from_static_cohort/`), { method: 'PATCH', body: { person_id: person } }),
  async uploads(id: number, signal?: Signal): Promise<Upload[]> {
    const page = await call<{ results: Upload[] }>(api(`cohorts/${id}/uploads/`), { query: { limit: 20 }, signal });
    return page.results;
  },
};

export interface PersonQuery {
  search?: string;
  distinct_id?: string;
  email?: string;
  properties?: string;
  cohort?: number;
}

export const people = {
  page: (query: PersonQuery & { limit: number; offset: number; include_total?: boolean }, signal?: Signal) =>
    call<PersonPage>(api('persons/'), { query: { ...query }, signal }),
  members: (id: number, query: PersonQuery & { limit: number; offset: number; include_total?: boolean }, signal?: Signal) =>
    call<PersonPage>(api(`cohorts/${id}/persons/`), { query: { ...query }, signal }),
  get: (id: string, signal?: Signal) => call<Person>(api(`persons/${encodeURIComponent(id)}/`), { signal }),
  cohorts: (id: string, signal?: Signal) =>
    call<PersonCohorts>(api('persons/cohorts/'), { query: { person_id: id }, signal }),
  events: (id: string, query: { limit: number; cursor?: string | undefined }, signal?: Signal) =>
    call<PersonEventPage>(api('events/'), { query: { person_id: id, ...query }, signal }),
  values: (key: string, value: string, signal?: Signal) =>
    call<PersonValue[]>(api('persons/values/'), { query: { key, value }, signal, isRead: false }),
};

/** Names and values of the project. A request is not repeated: the reader types on. */
export const definitions = {
  events: (query: { search: string; limit: number }, signal?: Signal) =>
    call<PaginatedEventDefinitionList>(api('event_definitions/'), { query, signal, isRead: false }),
  properties: (query: { type: string; search: string; limit: number; event_names?: string | undefined }, signal?: Signal) =>
    call<PaginatedPropertyDefinitionList>(api('property_definitions/'), { query, signal, isRead: false }),
  eventValues: (key: string, event: string, value: string, signal?: Signal) =>
    call<EventValue[]>(api('events/values/'), { query: { key, event_name: event, value }, signal, isRead: false }),
};

export const actions = {
  all: async (signal?: Signal) =>
    (await call<PaginatedActionList>(api('actions/'), { query: { limit: ROWS }, signal })).results,
};

/** Where a page of the feed begins: at a time, or after an earlier page. */
export type FeedStart = { from: string } | { cursor: string };

export const changes = {
  page: (start: FeedStart, cohort: number | undefined, signal?: Signal) =>
    call<ChangePage>(api('cohorts/changes/'), { query: { ...start, cohort_id: cohort, limit: ROWS }, signal }),
  /** An open stream of the whole project, from the cursor or from now. */
  stream: (cursor: string | undefined, signal: AbortSignal) =>
    send(api('cohorts/changes.sse'), {
      query: cursor === undefined ? { from: 'now' } : {},
      headers: { accept: 'text/event-stream', ...(cursor === undefined ? {} : { 'last-event-id': cursor }) },
      isRead: false,
      signal,
    }),
};

export const webhooks = {
  all: async (signal?: Signal) => (await call<WebhookPage>(api('webhooks/'), { query: { limit: ROWS }, signal })).results,
  get: (id: number, signal?: Signal) => call<Webhook>(api(`webhooks/${id}/`), { signal }),
  create: (body: object) => call<Webhook>(api('webhooks/'), { method: 'POST', body }),
  update: (id: number, body: object) => call<Webhook>(api(`webhooks/${id}/`), { method: 'PATCH', body }),
  remove: (id: number) => call<undefined>(api(`webhooks/${id}/`), { method: 'DELETE' }),
  deliveries: async (id: number, signal?: Signal) =>
    (await call<WebhookDeliveryPage>(api(`webhooks/${id}/deliveries/`), { query: { limit: 100 }, signal })).results,
  test: (id: number) => call<WebhookDelivery>(api(`webhooks/${id}/test/`), { method: 'POST' }),
  replay: (id: number, from: string) => call<Webhook>(api(`webhooks/${id}/replay/`), { method: 'POST', body: { from } }),
  rotate: (id: number) => call<Webhook>(api(`webhooks/${id}/rotate_secret/`), { method: 'POST' }),
};
