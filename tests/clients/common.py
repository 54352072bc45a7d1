"""What the scripts beside this have in common. They use the standard library alone for what is not the client's work:
sending people in, and waiting for a calculation."""

import argparse
import json
import sys
import time
import urllib.request


def absent(package, cause):
    """Ends the script where the package is not installed."""
    print(f"{package} is not installed here: {cause}", file=sys.stderr)
    sys.exit(77)


def arguments(description):
    given = argparse.ArgumentParser(description=description)
    given.add_argument("host", help="the base URL of the service")
    given.add_argument("project", type=int, help="the number of the project, the only one that the key reaches")
    given.add_argument("key", help="a personal key with all scopes, phx_…")
    given.add_argument("token", nargs="?", help="the project's token, phc_…; without it nothing is done with people")
    given = given.parse_args()
    given.host = given.host.rstrip("/")
    return given


def same(what, found, expected):
    """Ends the script with a message where what was found is not what was expected."""
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


def holds(what, condition, found):
    if not condition:
        sys.exit(f"{what}: found {found!r}")


def ask(url, key=None, body=None):
    """The JSON of the answer to a GET, or to a POST where there is a body."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        return json.load(answer)


def send_people(given, people):
    """Makes people, who are given as properties by distinct id."""
    batch = [
        {"event": "$set", "distinct_id": distinct_id, "properties": {"$set": properties}}
        for distinct_id, properties in people.items()
    ]
    answer = ask(f"{given.host}/batch/", body={"api_key": given.token, "batch": batch})
    same("the answer to /batch/", answer, {"status": "Ok"})


def calculated(show):
    """What `show` gives, as soon as the cohort in it is calculated. The service must calculate by itself."""
    deadline = time.monotonic() + 30
    while True:
        cohort = show()
        if not cohort["is_calculating"]:
            return cohort
        if time.monotonic() > deadline:
            sys.exit(f"the calculation does not end: {cohort}")
        time.sleep(0.02)


def person_property(key, value):
    """Filters for people with a value in a property."""
    criterion = {"type": "person", "key": key, "operator": "exact", "value": value}
    return {"properties": {"type": "AND", "values": [criterion]}}
