// Uses the client that OpenAPI Generator generates in TypeScript from the contract, against the service at COHORTS_URL.
// `.ci/clients` describes the calls.

import { strict as assert } from "node:assert";
import * as api from "./client";

const projectId = "@current";
const configuration = new api.Configuration({ basePath: process.env["COHORTS_URL"]!, accessToken: process.env["COHORTS_KEY"]! });
const cohorts = new api.CohortsApi(configuration);

async function listPages() {
  const first = await cohorts.cohortsList({ projectId, limit: 2 });
  assert(first.count >= 8 && first.results.length === 2);
  assert(first.previous === null && first.next?.includes("offset=2"));
  const second = await cohorts.cohortsList({ projectId, limit: 2, offset: 2 });
  assert(second.results[0]?.id !== first.results[0]?.id);
}

async function create() {
  const pro: api.PersonLeaf = { type: "person", key: "plan", operator: "exact", value: "pro" };
  const older: api.PersonLeaf = { type: "person", key: "age", operator: "gt", value: 16777217 };
  const seen: api.BehavioralLeaf = {
    type: "behavioral",
    key: "$pageview",
    eventType: "events",
    value: "performed_event",
    timeValue: 7,
    timeInterval: "day",
    eventFilters: [{ type: "event", key: "$browser", operator: "is_set" }],
  };
  const filters: api.CohortFilters = { properties: { type: "AND", values: [pro, older, seen] } };
  const cohort = await cohorts.cohortsCreate({ projectId, cohortCreate: { name: "Pros", filters } });
  assert(cohort.name === "Pros" && !cohort.isStatic);
  assert.equal(cohort.filters.properties["values"][1].value, 16777217);
  assert(cohort.query === null && cohort.count === null && cohort.createdBy?.email);

  const changed = await cohorts.cohortsPartialUpdate({ projectId, id: cohort.id, patchedCohort: { name: null } });
  assert.equal(changed.name, null);
  assert.deepEqual(changed.filters, cohort.filters);
  // A field of a later version of the service.
  const later = { ...api.CohortToJSON(cohort), later: { is: "ignored" } };
  assert.deepEqual(api.CohortFromJSON(later), cohort);
}

async function members(): Promise<string[]> {
  const page = await cohorts.cohortsPersonsRetrieve({ projectId, id: 1, limit: 3 });
  assert(page.results.length === 3 && page.next !== null);
  const person = page.results[0]!;
  assert(person.properties["email"] === person.name && person.valueAtDataPoint === null);
  return page.results.map((person) => person.id);
}

async function addPersons(personIds: string[]) {
  const { id } = await cohorts.cohortsCreate({ projectId, cohortCreate: { name: "By hand", isStatic: true } });
  const members = new api.MembersApi(configuration);
  const done = await members.cohortsAddPersonsToStaticCohortPartialUpdate({ projectId, id, personsToAdd: { personIds } });
  assert(done.success);
  assert.equal((await cohorts.cohortsRetrieve({ projectId, id })).count, personIds.length);
}

async function capture() {
  const projects = await new api.ProjectsApi(configuration).projectsList();
  const event: api.CaptureEvent = { event: "signed up", distinctId: "ana", properties: { $set: { language: "pt" } } };
  const captureBatch: api.CaptureBatch = { apiKey: projects.results[0]!.apiToken, batch: [event] };
  assert.equal((await new api.CaptureApi(configuration).captureBatch({ captureBatch })).status, "Ok");
}

// The generated client does not read the body of an error.
async function rejection(call: Promise<unknown>): Promise<api.ModelError> {
  try {
    await call;
  } catch (error) {
    assert(error instanceof api.ResponseError);
    return api.ModelErrorFromJSON(await error.response.json());
  }
  throw new Error("the call must be rejected");
}

async function rejections() {
  const rejected = await rejection(cohorts.cohortsPersonsRetrieve({ projectId, id: 1, properties: "no JSON" }));
  assert(rejected.code === "invalid_input" && rejected.attr === "properties");
  const missing = await rejection(cohorts.cohortsRetrieve({ projectId, id: 999999 }));
  assert(missing.code === "not_found" && missing.attr === null);
}

async function main() {
  await listPages();
  await create();
  await addPersons(await members());
  await capture();
  await rejections();
}

void main();
