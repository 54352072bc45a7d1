// Uses openapi-fetch with the types that openapi-typescript generates from the contract, against the service at
// COHORTS_URL. `.ci/clients` describes the calls. The last lines must not compile.

import { strict as assert } from "node:assert";
import createClient from "openapi-fetch";
import type { components, paths } from "./cohorts";

type Schemas = components["schemas"];

const client = createClient<paths>({
  baseUrl: process.env["COHORTS_URL"]!,
  headers: { Authorization: `Bearer ${process.env["COHORTS_KEY"]}` },
});
const path = { project_id: "@current" };

// The body of a response that must be a success.
function value<T>({ data, error }: { data?: T; error?: unknown }): T {
  assert.equal(error, undefined);
  return data!;
}

async function listPages() {
  const query = { limit: 2, type: "dynamic", basic: true } as const;
  const first = value(await client.GET("/api/projects/{project_id}/cohorts/", { params: { path, query } }));
  assert(first.count >= 8 && first.results.length === 2);
  assert(first.previous === null && first.next?.includes("offset=2"));
  const params = { path, query: { ...query, offset: 2 } };
  const second = value(await client.GET("/api/projects/{project_id}/cohorts/", { params }));
  assert(second.results[0]?.id !== first.results[0]?.id);
  // Rows of the list have no criteria if `basic` is set.
  const criteria: Schemas["StoredFilters"] | undefined = second.results[0]?.filters;
  assert.equal(criteria, undefined);
}

async function create() {
  const filters: Schemas["CohortFilters"] = {
    properties: {
      type: "OR",
      values: [
        {
          type: "AND",
          values: [
            { type: "person", key: "plan", operator: "exact", value: ["pro", "team"] },
            { type: "person", key: "age", operator: "gt", value: 16777217 },
            { type: "behavioral", key: "$pageview", event_type: "events", value: "performed_event", time_value: 7, time_interval: "day" },
            { type: "cohort", key: "id", value: 1, negation: true },
          ],
        },
        { type: "person_metadata", key: "created_at", operator: "is_date_after", value: "-7d" },
      ],
    },
  };
  const body = { name: "Pros", filters };
  const cohort = value(await client.POST("/api/projects/{project_id}/cohorts/", { params: { path }, body }));
  assert(cohort.name === "Pros" && !cohort.is_static);
  assert.match(JSON.stringify(cohort.filters), /16777217/);
  assert(cohort.query === null && cohort.count === null && cohort.created_by?.email);

  const params = { path: { ...path, id: cohort.id } };
  const changed = value(await client.PATCH("/api/projects/{project_id}/cohorts/{id}/", { params, body: { name: null } }));
  const name: string | null = changed.name;
  assert.equal(name, null);
  assert.deepEqual(changed.filters, cohort.filters);
}

async function members(): Promise<string[]> {
  const params = { path: { ...path, id: 1 }, query: { limit: 3 } };
  const page = value(await client.GET("/api/projects/{project_id}/cohorts/{id}/persons/", { params }));
  // One type describes the three formats of the response.
  assert(typeof page === "object");
  assert(page.results.length === 3 && page.next !== null);
  const person = page.results[0]!;
  assert(person.properties["email"] === person.name && person.value_at_data_point === null);
  return page.results.map((person) => person.id);
}

async function addPersons(person_ids: string[]) {
  const body = { name: "By hand", is_static: true };
  const { id } = value(await client.POST("/api/projects/{project_id}/cohorts/", { params: { path }, body }));
  const params = { path: { ...path, id } };
  const done = value(
    await client.PATCH("/api/projects/{project_id}/cohorts/{id}/add_persons_to_static_cohort/", { params, body: { person_ids } }),
  );
  assert(done.success);
  const after = value(await client.GET("/api/projects/{project_id}/cohorts/{id}/", { params }));
  assert.equal(after.count, person_ids.length);
}

async function capture() {
  const projects = value(await client.GET("/api/projects/"));
  const event = { event: "signed up", distinct_id: "ana", properties: { $set: { language: "pt" } } };
  const body = { api_key: projects.results[0]!.api_token, batch: [event] };
  assert.equal(value(await client.POST("/batch/", { body })).status, "Ok");
}

async function rejections() {
  const malformed = { path: { ...path, id: 1 }, query: { properties: "no JSON" } };
  const rejected = await client.GET("/api/projects/{project_id}/cohorts/{id}/persons/", { params: malformed });
  assert(rejected.response.status === 400 && rejected.error);
  assert(rejected.error.code === "invalid_input" && rejected.error.attr === "properties");
  const absent = { path: { ...path, id: 999999 } };
  const missing = await client.GET("/api/projects/{project_id}/cohorts/{id}/", { params: absent });
  const error: Schemas["Error"] | undefined = missing.error;
  assert(error?.code === "not_found" && error.attr === null);
}

async function main() {
  await listPages();
  await create();
  await addPersons(await members());
  await capture();
  await rejections();
}

void main();

type CohortQuery = NonNullable<paths["/api/projects/{project_id}/cohorts/"]["get"]["parameters"]["query"]>;

// Code that must not compile.
export const refused = {
  // @ts-expect-error The criteria must be in `properties`.
  bare: { type: "AND", values: [] } satisfies Schemas["CohortFilters"],
  // @ts-expect-error A group is `AND` or `OR`.
  group: { properties: { type: "XOR", values: [] } } satisfies Schemas["CohortFilters"],
  // @ts-expect-error A criterion has an operator.
  leaf: { type: "person", key: "plan", value: "pro" } satisfies Schemas["FilterNode"],
  // @ts-expect-error There are two kinds of cohort.
  query: { type: "dynamical" } satisfies CohortQuery,
  // @ts-expect-error The id of a cohort is read-only.
  number: { id: 1 } satisfies Schemas["PatchedCohort"],
};
