// A TypeScript program against the types that are generated from openapi.yaml. It only has to compile.

import type { components, paths } from "../../../target/ci/typescript/cohorts";

type Schemas = components["schemas"];
type Cohorts = paths["/api/projects/{project_id}/cohorts/"];
type OneCohort = paths["/api/projects/{project_id}/cohorts/{id}/"];
type Members = paths["/api/projects/{project_id}/cohorts/{id}/persons/"];

type Query<Operation> = Operation extends { parameters: { query?: infer Q } } ? NonNullable<Q> : never;
type JsonBody<Operation> = Operation extends { requestBody?: { content: { "application/json": infer B } } } ? B : never;
type JsonAnswer<Operation, Status extends number> = Operation extends {
  responses: { [S in Status]: { content: { "application/json": infer A } } };
}
  ? A
  : never;

class Failure extends Error {
  constructor(readonly status: number, readonly error: Schemas["Error"]) {
    super(error.attr === null ? error.detail : `${error.attr}: ${error.detail}`);
  }
}

class Client {
  constructor(private readonly host: string, private readonly key: string, private readonly project = "@current") {}

  list(query: Query<Cohorts["get"]>): Promise<JsonAnswer<Cohorts["get"], 200>> {
    return this.call("GET", `cohorts/?${text(query)}`);
  }

  create(cohort: JsonBody<Cohorts["post"]>): Promise<JsonAnswer<Cohorts["post"], 201>> {
    return this.call("POST", "cohorts/", cohort);
  }

  change(id: number, fields: JsonBody<OneCohort["patch"]>): Promise<JsonAnswer<OneCohort["patch"], 200>> {
    return this.call("PATCH", `cohorts/${id}/`, fields);
  }

  members(id: number, query: Query<Members["get"]>): Promise<JsonAnswer<Members["get"], 200>> {
    return this.call("GET", `cohorts/${id}/persons/?${text(query)}`);
  }

  private async call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await fetch(`${this.host}/api/projects/${this.project}/${path}`, {
      method,
      headers: { Authorization: `Bearer ${this.key}`, "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    if (!answer.ok) {
      throw new Failure(answer.status, (await answer.json()) as Schemas["Error"]);
    }
    return (await answer.json()) as Answer;
  }
}

function text(query: object): string {
  return new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString();
}

export async function use(host: string, key: string): Promise<string[]> {
  const client = new Client(host, key);

  const filters: Schemas["CohortFilters"] = {
    properties: {
      type: "OR",
      values: [
        {
          type: "AND",
          values: [
            { type: "person", key: "plan", operator: "exact", value: ["pro", "team"] },
            { type: "behavioral", key: "$pageview", event_type: "events", value: "performed_event", time_value: 7, time_interval: "day" },
            { type: "cohort", key: "id", value: 1, negation: true },
          ],
        },
        { type: "person_metadata", key: "created_at", operator: "is_date_after", value: "-7d" },
      ],
    },
  };
  const cohort = await client.create({ name: "Active", filters });
  const changed = await client.change(cohort.id, { name: null, description: "Active on a paid plan" });
  await client.change(cohort.id, { deleted: true });
  await client.create({ name: "By hand", is_static: true, _create_static_person_ids: [] });

  const page = await client.list({ limit: 10, type: "dynamic", search: "act", basic: true });
  const names: (string | null)[] = page.results.map((cohort) => cohort.name);
  // Rows of the list have no criteria if `basic` is set.
  const criteria: Schemas["StoredFilters"] | undefined = page.results[0]?.filters;
  const kind: "static" | "person_property" | "behavioral" | "realtime" | "analytical" | null = changed.cohort_type;

  const emails: string[] = [];
  const persons = await client.members(cohort.id, { limit: 100, properties: JSON.stringify([{ key: "plan", value: "pro" }]) });
  for (const person of persons.results) {
    const email = person.properties["email"];
    emails.push(typeof email === "string" ? email : person.distinct_ids[0] ?? person.name);
  }
  const next: string | null = persons.next;
  return [...emails, ...names.map(String), String(criteria), String(kind), String(next)];
}

// Code that must not compile.
export const refused = {
  // @ts-expect-error The criteria must be in `properties`.
  bare: { type: "AND", values: [] } satisfies Schemas["CohortFilters"],
  // @ts-expect-error A group is `AND` or `OR`.
  group: { properties: { type: "XOR", values: [] } } satisfies Schemas["CohortFilters"],
  // @ts-expect-error A criterion has an operator.
  leaf: { type: "person", key: "plan", value: "pro" } satisfies Schemas["FilterNode"],
  // @ts-expect-error There are two kinds of cohort.
  query: { type: "dynamical" } satisfies Query<Cohorts["get"]>,
  // @ts-expect-error The id of a cohort is read-only.
  number: { id: 1 } satisfies JsonBody<OneCohort["patch"]>,
};
