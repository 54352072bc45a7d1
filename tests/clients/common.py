"""Common parts of the scripts in this folder. Capturing persons and waiting for a calculation are not the work of the
tested clients, so the scripts do both with the standard library."""

import argparse
import json
import sys
import time
import urllib.request


def absent(package, cause):
    """Ends the script because the package is not installed."""
    print(f"{package} is not installed: {cause}", file=sys.stderr)
    sys.exit(77)


def arguments(description):
    options = argparse.ArgumentParser(description=description)
    options.add_argument("host", help="the base URL of the service")
    options.add_argument("project", type=int, help="the id of the only project of the key")
    options.add_argument("key", help="a personal key with all scopes, phx_…")
    options.add_argument("token", nargs="?", help="the project's token, phc_…; without it the script captures no persons")
    options = options.parse_args()
    options.host = options.host.rstrip("/")
    return options


def same(what, actual, expected):
    """Ends the script with a message if the two values differ."""
    if actual != expected:
        sys.exit(f"{what}: actual {actual!r}, expected {expected!r}")


def holds(what, condition, actual):
    if not condition:
        sys.exit(f"{what}: actual {actual!r}")


def ask(url, key=None, body=None):
    """The JSON response to a GET, or to a POST if there is a body."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return json.load(answer)


def send_persons(options, persons):
    """Creates persons with these properties by distinct id."""
    batch = [
        {"event": "$set", "distinct_id": distinct_id, "properties": {"$set": properties}}
        for distinct_id, properties in persons.items()
    ]
    answer = ask(f"{options.host}/batch/", body={"api_key": options.token, "batch": batch})
    same("the answer to /batch/", answer, {"status": "Ok"})


def calculated(show):
    """The result of `show` after the cohort's calculation. The service must calculate in the background."""
    deadline = time.monotonic() + 30
    while True:
        cohort = show()
        if not cohort["is_calculating"]:
            return cohort
        if time.monotonic() > deadline:
            sys.exit(f"the calculation does not end in time: {cohort}")
        time.sleep(0.02)


def person_property(key, value):
    """Filters for persons with this value of a property."""
    criterion = {"type": "person", "key": key, "operator": "exact", "value": value}
    return {"properties": {"type": "AND", "values": [criterion]}}
