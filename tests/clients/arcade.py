"""Calls all cohort tools of the unmodified Arcade toolkit (PyPI's arcade-posthog-api) like a worker of Arcade: from a
catalogue of tools, with inputs and outputs checked against their models. Prints the created cohorts as one line of
JSON.

The host is the toolkit's secret POSTHOG_SERVER_URL, which may be any URL, and the key is POSTHOG_PERSONAL_API_KEY. Like
an Arcade worker, this script passes both to the tools in their context.

Exit status 77 means that the package is not installed, 1 that a response is not as expected.
"""

import asyncio
import csv
import importlib.metadata
import io
import json
import time

from common import absent, arguments, calculated, holds, person_property, same, send_persons

try:
    VERSION = importlib.metadata.version("arcade-posthog-api")
    import arcade_posthog_api.tools as toolkit
    from arcade_core.catalog import ToolCatalog
    from arcade_core.executor import ToolExecutor
    from arcade_tdk import ToolContext
except ImportError as cause:
    absent("arcade-posthog-api", cause)

# All cohort tools except two, which create cohorts for experiments and feature flags, and one tool of users. The person
# tools do not fit: they expect numeric ids, and `GetPersonsCohorts` has no parameter for the person.
TOOLS = [
    toolkit.list_project_cohorts,
    toolkit.create_cohort_tracking,
    toolkit.retrieve_cohorts_data,
    toolkit.modify_cohort_views,
    toolkit.update_cohort_views,
    toolkit.set_cohort_deleted,
    toolkit.get_cohort_activity,
    toolkit.retrieve_cohort_activity,
    toolkit.add_persons_to_static_cohort,
    toolkit.remove_person_from_static_cohort,
    toolkit.retrieve_cohort_calculation_history,
    toolkit.create_static_cohort_copy,
    toolkit.get_cohort_persons,
    toolkit.retrieve_user_information,
]

# The fields of a response in the toolkit's schema of a cohort. A program cannot read that schema: a description has
# unescaped quotes, so it is not JSON.
FIELDS = [
    "count",
    "created_at",
    "created_by",
    "errors_calculating",
    "experiment_set",
    "id",
    "is_calculating",
    "last_calculation",
]
FIELDS_OF_CREATOR = ["email", "hedgehog_config", "id", "uuid"]

# All calls share it, because the toolkit keeps its connections open.
LOOP = asyncio.new_event_loop()


class Worker:
    def __init__(self, host, key):
        self.called = set()
        self.catalog = ToolCatalog()
        for tool in TOOLS:
            self.catalog.add_tool(tool, "posthog_api")
        self.tools = {tool.definition.name: tool for tool in self.catalog}
        self.context = ToolContext()
        self.context.set_secret("POSTHOG_SERVER_URL", host)
        self.context.set_secret("POSTHOG_PERSONAL_API_KEY", key)

    def outcome(self, name, **inputs):
        self.called.add(name)
        tool = self.tools[name]
        models = {"input_model": tool.input_model, "output_model": tool.output_model}
        call = ToolExecutor.run(tool.tool, tool.definition, context=self.context, **models, **inputs)
        return LOOP.run_until_complete(call)

    def value(self, name, **inputs):
        outcome = self.outcome(name, **inputs)
        holds(f"{name} of {inputs}", outcome.error is None, outcome.error and outcome.error.developer_message)
        return outcome.value

    def json(self, name, **inputs):
        value = self.value(name, **inputs)
        holds(f"the JSON of {name}", "response_json" in value, value)
        return value["response_json"]

    def sends(self, name, body, **inputs):
        """Calls a tool with a body, which is JSON in a string."""
        return self.json(name, mode="execute", request_body=json.dumps(body), **inputs)

    def fails(self, name, status, **inputs):
        """The error of a tool call that gets this status."""
        error = self.outcome(name, **inputs).error
        message = error.developer_message if error else "none"
        expected = [f"Client error '{status} ", f"API returned {status}:"]
        holds(f"the failure of {name} by {status}", any(words in message for words in expected), message)
        return error


def definitions(worker, project):
    """Creates, retrieves, lists, changes and deletes cohorts."""
    schema = worker.value("CreateCohortTracking", mode="get_request_schema")["request_body_schema"]
    holds("the toolkit's own schema of a cohort", '"_create_static_person_ids"' in schema, schema)

    filters = person_property("plan", "pro")
    body = {"name": "Pros", "description": "Those who pay", "filters": filters}
    made = worker.sends("CreateCohortTracking", body, project_id=project)
    same("the name", made["name"], "Pros")
    same("the description", made["description"], "Those who pay")
    same("whether it is static", made["is_static"], False)
    same("the fields that are missing", [field for field in FIELDS if field not in made], [])
    missing = [field for field in FIELDS_OF_CREATOR if field not in made["created_by"]]
    same("the fields of the creator that are missing", missing, [])

    def shown():
        return worker.json("RetrieveCohortsData", cohort_identifier=made["id"], project_id=project)

    same("the cohort that is shown", calculated(shown)["name"], "Pros")

    other = worker.sends("CreateCohortTracking", {"name": "Empty", "is_static": True}, project_id=project)
    same("whether the other one is static", other["is_static"], True)

    page = worker.json("ListProjectCohorts", project_id=project)
    holds("the list", {made["id"], other["id"]} <= {cohort["id"] for cohort in page["results"]}, page)
    for start in [0, 1]:
        part = worker.json("ListProjectCohorts", project_id=project, results_per_page=1, results_start_index=start)
        same("how many there are", part["count"], page["count"])
        same("a page of one", [cohort["id"] for cohort in part["results"]], [page["results"][start]["id"]])

    changed = worker.sends("UpdateCohortViews", {"name": "Professionals"}, cohort_id=made["id"], project_id=project)
    same("the changed name", changed["name"], "Professionals")
    same("the description that was not given", changed["description"], "Those who pay")
    body = {"name": "Pros again", "description": "", "filters": filters}
    changed = worker.sends("ModifyCohortViews", body, cohort_identifier=made["id"], project_identifier=project)
    same("the replaced name", changed["name"], "Pros again")
    same("the replaced description", changed["description"], "")

    # PostHog and this service delete only by a PATCH.
    worker.fails("SetCohortDeleted", 405, cohort_id=other["id"], project_id=project)
    deleted = worker.sends("UpdateCohortViews", {"deleted": True}, cohort_id=other["id"], project_id=project)
    same("whether it is deleted", deleted["deleted"], True)
    page = worker.json("ListProjectCohorts", project_id=project)
    same("the cohorts that are left", [cohort["id"] for cohort in page["results"]], [made["id"]])
    worker.fails("RetrieveCohortsData", 404, cohort_identifier=999_999_999, project_id=project)

    # The model gets the error of a body, so that it can retry.
    wrong = {"name": "x" * 500, "filters": filters}
    inputs = {"mode": "execute", "request_body": json.dumps(wrong), "project_id": project}
    error = worker.fails("CreateCohortTracking", 400, **inputs)
    same("whether to try again", error.can_retry, True)
    holds("what is wrong", "400" in error.additional_prompt_content, error.additional_prompt_content)
    return made["id"], other["id"]


def history(worker, project, made, other):
    """The activity log and the calculation history of the cohorts."""
    entries = worker.json("GetCohortActivity", cohort_id=made, project_id=project)["results"]
    # Newest first. PUT and PATCH are both changes.
    same("the activity", [entry["activity"] for entry in entries], ["updated", "updated", "created"])
    same("what it is about", {(entry["scope"], entry["item_id"]) for entry in entries}, {("Cohort", str(made))})
    everything = worker.json("RetrieveCohortActivity", project_id=project)["results"]
    about = {entry["item_id"] for entry in everything}
    holds("the activity of all cohorts", {str(made), str(other)} <= about, about)

    for _ in range(300):
        runs = worker.json("RetrieveCohortCalculationHistory", cohort_id=made, project_id=project)["results"]
        if all(run["is_completed"] for run in runs):
            break
        time.sleep(0.1)
    holds("the calculations", len(runs) >= 1, runs)
    same("how they ended", {(run["is_completed"], run["is_successful"]) for run in runs}, {(True, True)})
    return len(runs)


def members(worker, given, project, made):
    """The members of the dynamic cohort, of its static copy, and of a static cohort that is filled by id."""
    profiles = {f"buyer-{number}": {"plan": "pro", "email": f"{number}@example.org"} for number in range(5)}
    profiles["guest"] = {"plan": "free"}
    send_persons(given, profiles)
    pros = sorted(person for person, properties in profiles.items() if properties["plan"] == "pro")

    # Sending the criteria again requests a calculation with the new persons.
    body = {"filters": person_property("plan", "pro")}
    worker.sends("UpdateCohortViews", body, cohort_id=made, project_id=project)

    def persons(cohort):
        return worker.json("GetCohortPersons", cohort_id=cohort, project_id=project)["results"]

    def distinct_ids(cohort):
        return sorted(person["distinct_ids"][0] for person in persons(cohort))

    def shown():
        return worker.json("RetrieveCohortsData", cohort_identifier=made, project_id=project)

    same("the count", calculated(shown)["count"], len(pros))
    same("the members", distinct_ids(made), pros)
    by_format = worker.json("GetCohortPersons", cohort_id=made, project_id=project, output_format="json")
    same("the members as JSON", by_format["results"], persons(made))
    text = worker.value("GetCohortPersons", cohort_id=made, project_id=project, output_format="csv")["response_text"]
    rows = list(csv.DictReader(io.StringIO(text)))
    same("the members as CSV", sorted(row["distinct_ids.0"] for row in rows), pros)

    copy = worker.json("CreateStaticCohortCopy", cohort_identifier=made, project_identifier=project)
    same("whether the copy is static", copy["is_static"], True)
    same("the members of the copy", distinct_ids(copy["id"]), pros)

    picked = worker.sends("CreateCohortTracking", {"name": "Picked", "is_static": True}, project_id=project)["id"]
    chosen = persons(made)[:3]
    ids = [person["id"] for person in chosen]
    add = {"cohort_id": picked, "project_identifier": project, "person_uuids_to_add": ids}
    same("the answer to adding", worker.json("AddPersonsToStaticCohort", **add), {"success": True})
    remove = {"cohort_id": picked, "project_id": project, "person_uuid_to_remove": ids[0]}
    same("the answer to removing", worker.json("RemovePersonFromStaticCohort", **remove), {"success": True})
    left = sorted(person["distinct_ids"][0] for person in chosen[1:])
    same("the remaining members", distinct_ids(picked), left)
    # Without a person the tool sends no body, which is an error of the caller.
    worker.fails("AddPersonsToStaticCohort", 400, cohort_id=picked, project_identifier=project)
    worker.fails("RemovePersonFromStaticCohort", 400, cohort_id=picked, project_id=project)
    return {"dynamic": pros, "copy": copy["id"], "picked": picked, "left": left}


def main():
    given = arguments(__doc__)
    project = str(given.project)
    worker = Worker(given.host, given.key)
    made, other = definitions(worker, project)
    calculations = history(worker, project, made, other)
    result = members(worker, given, project, made) if given.token else None

    user = worker.json("RetrieveUserInformation", user_unique_identifier="@me")
    same("the project of the key", user["team"]["id"], given.project)
    entries = worker.json("RetrieveCohortActivity", project_id=project)["results"]
    same("the user of all entries", {entry["user"]["email"] for entry in entries}, {user["email"]})

    stranger = Worker(given.host, "phx_wrong")
    stranger.fails("ListProjectCohorts", 401, project_id=project)
    if given.token:
        same("the tools that were not called", sorted(set(worker.tools) - worker.called), [])
    summary = {"cohort": made, "deleted": other, "calculations": calculations, "members": result}
    print(json.dumps({"client": "arcade-posthog-api", "version": VERSION, "tools": len(worker.called)} | summary))


if __name__ == "__main__":
    main()
