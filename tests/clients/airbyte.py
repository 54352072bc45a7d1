"""Checks the connection, lists the streams, and reads the streams `projects`, `cohorts` and `persons` by the unmodified
connector of Airbyte (PyPI's airbyte-source-posthog); prints as one line of JSON how much it read.

The host is the connector's setting `base_url`, which may be any URL. It asks without a slash at the end of a path, and
for pages of a hundred by `limit` and `offset`; so there is more than a page of everything.

It reads all that the key reaches, so the key must reach this project alone.

Exit status 77 means that the package is not installed here, 1 that what it read is not as expected.
"""

import collections
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile

from common import absent, arguments, ask, calculated, holds, person_property, same, send_people

try:
    VERSION = importlib.metadata.version("airbyte-source-posthog")
    import jsonschema
except ImportError as cause:
    absent("airbyte-source-posthog", cause)

PAGE = 100
# The other streams (feature flags, events, annotations, insights) are of what the service does not have.
STREAMS = ["projects", "cohorts", "persons"]


class Source:
    def __init__(self, directory, config):
        self.directory = pathlib.Path(directory)
        self.config = self.write("config.json", config)

    def write(self, name, content):
        path = self.directory / name
        path.write_text(json.dumps(content))
        return path

    def run(self, *words):
        """The messages of the connector, and its status. This is what its command `source-posthog` does."""
        command = [sys.executable, "-c", "from source_posthog.run import run; run()", *words]
        ended = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=120)
        messages = collections.defaultdict(list)
        for line in ended.stdout.splitlines():
            message = json.loads(line)
            messages[message["type"]].append(message)
        complaints = [message["log"]["message"] for message in messages["LOG"] if message["log"]["level"] == "ERROR"]
        return messages, ended.returncode, f"{complaints}{ended.stderr}"

    def status(self, config):
        messages, _, complaint = self.run("check", "--config", str(config))
        holds("the answer of `check`", len(messages["CONNECTION_STATUS"]) == 1, complaint)
        return messages["CONNECTION_STATUS"][0]["connectionStatus"]

    def streams(self):
        messages, status, complaint = self.run("discover", "--config", str(self.config))
        same(f"{complaint} and the status of `discover`", status, 0)
        return {stream["name"]: stream for stream in messages["CATALOG"][0]["catalog"]["streams"]}

    def read(self, streams):
        """The records of each stream."""
        configured = [
            {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"} for stream in streams
        ]
        catalog = self.write("catalog.json", {"streams": configured})
        messages, status, complaint = self.run("read", "--config", str(self.config), "--catalog", str(catalog))
        same(f"{complaint} and the status of `read`", status, 0)
        traces = [message["trace"] for message in messages["TRACE"]]
        ends = {
            trace["stream_status"]["stream_descriptor"]["name"]: trace["stream_status"]["status"]
            for trace in traces
            if trace["type"] == "STREAM_STATUS"
        }
        same("how the streams ended", ends, {stream["name"]: "COMPLETE" for stream in streams})
        records = {stream["name"]: [] for stream in streams}
        for message in messages["RECORD"]:
            records[message["record"]["stream"]].append(message["record"]["data"])
        return records


def make(given):
    """More than a page of cohorts and of people: cohorts by number, properties by distinct id."""
    url = f"{given.host}/api/projects/{given.project}/cohorts/"
    people = {}
    if given.token:
        for number in range(2 * PAGE + 5):
            plan = "pro" if number % 5 == 0 else "free"
            people[f"reader-{number}"] = {"plan": plan, "email": f"{number}@example.org", "seats": number}
        send_people(given, people)
    cohorts = {}
    for number in range(PAGE + 2):
        sent = {"name": f"Static {number}", "is_static": True}
        cohort = ask(url, given.key, sent)
        cohorts[cohort["id"]] = cohort | sent
    dynamic = ask(url, given.key, {"name": "Pros", "filters": person_property("plan", "pro")})
    calculated(lambda: ask(f"{url}{dynamic['id']}/", given.key))
    cohorts[dynamic["id"]] = dynamic
    return people, cohorts, dynamic["id"]


def compare(records, given, people, cohorts, dynamic):
    same("the projects", [project["id"] for project in records["projects"]], [given.project])

    found = {cohort["id"]: cohort for cohort in records["cohorts"]}
    same("how many cohorts came twice", len(records["cohorts"]) - len(found), 0)
    for number, cohort in cohorts.items():
        holds(f"the cohort {number}", number in found, sorted(found))
        for field in ["name", "is_static", "deleted", "groups", "filters", "created_by", "created_at"]:
            same(f"the field {field} of the cohort {number}", found[number].get(field), cohort[field])
    same("whether it is calculating", found[dynamic]["is_calculating"], False)

    ids = [person["id"] for person in records["persons"]]
    same("how many people came twice", len(ids) - len(set(ids)), 0)
    properties = {}
    for person in records["persons"]:
        same("the two ids of a person", person["uuid"], person["id"])
        for distinct_id in person["distinct_ids"]:
            properties[distinct_id] = person["properties"]
    for distinct_id, expected in people.items():
        same(f"the properties of {distinct_id}", properties.get(distinct_id), expected)
    if people:
        pros = sum(person["properties"].get("plan") == "pro" for person in records["persons"])
        same("the count of the dynamic cohort", found[dynamic]["count"], pros)


def main():
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        # As the form of the source in Airbyte fills it.
        config = {"base_url": given.host, "api_key": given.key, "start_date": "2021-01-01T00:00:00Z"}
        source = Source(directory, config)

        people, cohorts, dynamic = make(given)
        status = source.status(source.config)
        same(f"{status} and the connection", status["status"], "SUCCEEDED")
        wrong = source.write("wrong.json", config | {"api_key": "phx_wrong"})
        same("the connection with a wrong key", source.status(wrong)["status"], "FAILED")

        streams = source.streams()
        holds("the streams", set(STREAMS) <= set(streams), sorted(streams))
        records = source.read([streams[name] for name in STREAMS])

    for name in STREAMS:
        validator = jsonschema.Draft7Validator(streams[name]["json_schema"])
        for record in records[name]:
            # A destination makes its tables after the schema.
            faults = [f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in validator.iter_errors(record)]
            same(f"what the schema of {name} has against {record}", faults, [])
    compare(records, given, people, cohorts, dynamic)
    read = {name: len(found) for name, found in records.items()}
    print(json.dumps({"client": "airbyte-source-posthog", "version": VERSION, "read": read, "dynamic": dynamic}))


if __name__ == "__main__":
    main()
