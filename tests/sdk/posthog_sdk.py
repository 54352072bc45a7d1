"""Sends persons and events through the unmodified `posthog` SDK, and prints the expected data of the service as one
line of JSON: the properties of each person by distinct id, and each event with its person.

Exit status 77 means that the SDK is not installed.
"""

import argparse
import datetime
import json
import sys

try:
    import posthog
    from posthog.version import VERSION
except ImportError as cause:
    print(f"the posthog SDK is not installed: {cause}", file=sys.stderr)
    sys.exit(77)


def send(client, persons, events):
    def capture(event, person, days_ago=0, sets=None, **properties):
        if sets is not None:
            properties["$set"] = sets
            persons.setdefault(person, {}).update(sets)
        persons.setdefault(person, {})
        at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days_ago)
        uuid = client.capture(event, distinct_id=person, properties=properties, timestamp=at)
        events.append({"event": event, "distinct_id": person, "days_ago": days_ago, "uuid": uuid})

    def set_properties(person, properties):
        client.set(distinct_id=person, properties=properties)
        persons.setdefault(person, {}).update(properties)

    def set_once(person, properties):
        client.set_once(distinct_id=person, properties=properties)
        persons[person] = properties | persons.get(person, {})

    capture("signed up", "ann", days_ago=40, sets={"plan": "pro", "name": "Ann Öberg", "seats": 5})
    capture("order placed", "ann", days_ago=3, amount=49.5)
    capture("order placed", "ann", days_ago=1, amount=12)

    # Only properties, without an event.
    set_properties("bob", {"plan": "pro", "seats": 2})

    capture("signed up", "cid", days_ago=2, sets={"plan": "free"})
    capture("order placed", "cid", days_ago=2, amount=7)

    # The later value wins.
    capture("signed up", "dee", days_ago=20, sets={"plan": "pro"})
    set_properties("dee", {"plan": "free"})

    # The earlier value wins.
    set_once("eve", {"plan": "pro", "source": "letter"})
    set_once("eve", {"plan": "free", "source": "poster"})
    capture("order placed", "eve", days_ago=35, amount=3)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("host", help="the base URL of the service")
    arguments.add_argument("token", help="the project's token, phc_…")
    arguments.add_argument("--gzip", action="store_true", help="send compressed")
    arguments.add_argument("--protocol", default="v0", help="v0 is /batch/, v1 /i/v1/analytics/events")
    options = arguments.parse_args()

    failures = []
    client = posthog.Posthog(
        options.token,
        host=options.host,
        gzip=options.gzip,
        capture_mode=options.protocol,
        max_retries=0,
        # Without a callback the SDK hides failures.
        on_error=lambda error, batch: failures.append(f"{len(batch)} items: {error}"),
    )
    persons, events = {}, []
    send(client, persons, events)
    client.flush()
    client.shutdown()
    if failures:
        sys.exit("the SDK could not deliver " + "; ".join(failures))
    print(json.dumps({"sdk": VERSION, "persons": persons, "events": events}))


if __name__ == "__main__":
    main()
