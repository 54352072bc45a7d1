"""Checks the connection, lists the streams, and reads the streams `projects`, `cohorts` and `persons` with the unmodified
connector of Airbyte (PyPI's airbyte-source-posthog). Prints the numbers of records as one line of JSON.

The host is the connector's setting `base_url`, which may be any URL. The connector requests paths without a trailing
slash, and pages of a hundred rows by `limit` and `offset`. The script therefore creates more than one page of rows.

The connector reads all projects of the key, so the key must have only this project.

Exit status 77 means that the package is not installed, 1 that a record is not as expected.
"""

import collections
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile

from common import absent, arguments, ask, calculated, holds, person_property, same, send_persons

try:
    VERSION = importlib.metadata.version("airbyte-source-posthog")
    import jsonschema
except ImportError as cause:
    absent("airbyte-source-posthog", cause)

PAGE = 100
# The service has no data for the other streams: feature flags, events, annotations, insights.
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
        """The messages, the exit status and the errors of the connector, run like its command `source-posthog`."""
        command = [sys.executable, "-c", "from source_posthog.run import run; run()", *words]
        process = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=120)
        messages = collections.defaultdict(list)
        for line in process.stdout.splitlines():
            message = json.loads(line)
            messages[message["type"]].append(message)
        errors = [message["log"]["message"] for message in messages["LOG"] if message["log"]["level"] == "ERROR"]
        return messages, process.returncode, f"{errors}{process.stderr}"

    def status(self, config):
        messages, _, errors = self.run("check", "--config", str(config))
        holds("the answer of `check`", len(messages["CONNECTION_STATUS"]) == 1, errors)
        return messages["CONNECTION_STATUS"][0]["connectionStatus"]

    def streams(self):
        messages, status, errors = self.run("discover", "--config", str(self.config))
        same(f"{errors} and the status of `discover`", status, 0)
        return {stream["name"]: stream for stream in messages["CATALOG"][0]["catalog"]["streams"]}

    def read(self, streams):
        """The records of each stream."""
        configured = [
            {"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "overwrite"} for stream in streams
        ]
        catalog = self.write("catalog.json", {"streams": configured})
        messages, status, errors = self.run("read", "--config", str(self.config), "--catalog", str(catalog))
        same(f"{errors} and the status of `read`", status, 0)
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


def create(options):
    """Creates more than a page of persons and of cohorts: properties by distinct id, cohorts by id."""
    url = f"{options.host}/api/projects/{options.project}/cohorts/"
    persons = {}
    if options.token:
        for number in range(2 * PAGE + 5):
            plan = "pro" if number % 5 == 0 else "free"
            persons[f"reader-{number}"] = {"plan": plan, "email": f"{number}@example.org", "seats": number}
        send_persons(options, persons)
    cohorts = {}
    for number in range(PAGE + 2):
        body = {"name": f"Static {number}", "is_static": True}
        cohort = ask(url, options.key, body)
        cohorts[cohort["id"]] = cohort | body
    dynamic = ask(url, options.key, {"name": "Pros", "filters": person_property("plan", "pro")})
    calculated(lambda: ask(f"{url}{dynamic['id']}/", options.key))
    cohorts[dynamic["id"]] = dynamic
    return persons, cohorts, dynamic["id"]


def compare(records, options, persons, cohorts, dynamic):
    same("the projects", [project["id"] for project in records["projects"]], [options.project])

    received = {cohort["id"]: cohort for cohort in records["cohorts"]}
    same("how many cohorts came twice", len(records["cohorts"]) - len(received), 0)
    for number, cohort in cohorts.items():
        holds(f"the cohort {number}", number in received, sorted(received))
        for field in ["name", "is_static", "deleted", "groups", "filters", "created_by", "created_at"]:
            same(f"the field {field} of the cohort {number}", received[number].get(field), cohort[field])
    same("whether it is calculating", received[dynamic]["is_calculating"], False)

    ids = [person["id"] for person in records["persons"]]
    same("how many persons came twice", len(ids) - len(set(ids)), 0)
    properties = {}
    for person in records["persons"]:
        same("the two ids of a person", person["uuid"], person["id"])
        for distinct_id in person["distinct_ids"]:
            properties[distinct_id] = person["properties"]
    for distinct_id, expected in persons.items():
        same(f"the properties of {distinct_id}", properties.get(distinct_id), expected)
    if persons:
        pros = sum(person["properties"].get("plan") == "pro" for person in records["persons"])
        same("the count of the dynamic cohort", received[dynamic]["count"], pros)


def main():
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        # Like the form of the source in Airbyte.
        config = {"base_url": options.host, "api_key": options.key, "start_date": "2021-01-01T00:00:00Z"}
        source = Source(directory, config)

        persons, cohorts, dynamic = create(options)
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
            # A destination derives its tables from the schema.
            faults = [f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in validator.iter_errors(record)]
            same(f"the schema errors of {name} for {record}", faults, [])
    compare(records, options, persons, cohorts, dynamic)
    read = {name: len(received) for name, received in records.items()}
    print(json.dumps({"client": "airbyte-source-posthog", "version": VERSION, "read": read, "dynamic": dynamic}))


if __name__ == "__main__":
    main()
