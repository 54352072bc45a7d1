"""Generates persons and groups of person criteria, matches them locally with the unmodified `posthog` SDK, and prints
the persons and the matches of each group as one line of JSON. Groups that the SDK leaves to the server are skipped.

The generator avoids inputs on which the SDK and a cohort differ: texts are in lower case (a cohort compares by case),
no value is null or missing (for the SDK null is set, and a missing value is inconclusive), and no criterion has a
boolean (the SDK then reduces all values to true and false).

Exit status 77 means that the SDK is not installed.
"""

import argparse
import json
import random
import sys

try:
    from posthog.feature_flags import InconclusiveMatchError, match_property_group
except ImportError as cause:
    print(f"the posthog SDK is not installed: {cause}", file=sys.stderr)
    sys.exit(77)

TEXTS = ["pro", "free", "enterprise", "a b", "ö", "x.io", "12 monkeys", ""]
NUMBERS = [0, 1, 7, 31, -4, 1000000]
NUMERALS = ["7", "31", "1e2", "-4", "3.5"]
DATES = ["2025-06-17T12:00:00+00:00", "2025-06-17T14:00:01+02:00", "2024-02-29T00:00:00+00:00", "2030-01-01T00:00:00+00:00"]
VERSIONS = ["1.2.3", "1.2.4", "1.3.0", "2.0.0", "0.2.3", "0.0.3"]
PATTERNS = ["^p", "o$", "e+", "[0-9]+", "a b", r"x\.io", "(pro|free)"]


def generate_persons(chance):
    return {
        f"p{number}": {
            "always": "yes",
            "text": chance.choice(TEXTS),
            "mixed": chance.choice(TEXTS + NUMBERS + NUMERALS),
            "number": chance.choice(NUMBERS + NUMERALS),
            "date": chance.choice(DATES),
            "version": chance.choice(VERSIONS),
        }
        for number in range(60)
    }


def criterion(chance):
    kind = chance.choice(["exact", "text", "regex", "number", "date", "version", "set"])
    if kind == "exact":
        key = chance.choice(["text", "mixed", "number"])
        values = chance.choices(TEXTS[:-1] + NUMBERS + NUMERALS, k=chance.randint(1, 3))
        value = values if len(values) > 1 else values[0]
        operator = chance.choice(["exact", "is_not"])
    elif kind == "text":
        key, value = chance.choice(["text", "mixed"]), chance.choice(["p", "e", "o", "a b", "x.io", "1"])
        operator = chance.choice(["icontains", "not_icontains"])
    elif kind == "regex":
        key, value = "text", chance.choice(PATTERNS)
        operator = chance.choice(["regex", "not_regex"])
    elif kind == "number":
        key, value = chance.choice(["number", "mixed"]), chance.choice(NUMBERS + NUMERALS)
        operator = chance.choice(["gt", "gte", "lt", "lte"])
    elif kind == "date":
        key, value = "date", chance.choice(DATES)
        operator = chance.choice(["is_date_before", "is_date_after"])
    elif kind == "version":
        key, value = "version", chance.choice(VERSIONS)
        operator = "semver_" + chance.choice(["eq", "neq", "gt", "gte", "lt", "lte", "tilde", "caret"])
    else:
        key, value, operator = "text", "is_set", chance.choice(["is_set", "is_not_set"])
    return {"type": "person", "key": key, "operator": operator, "value": value, "negation": chance.random() < 0.3}


def group(chance, depth):
    # For the SDK a group has either only groups or only criteria.
    if depth > 0 and chance.random() < 0.6:
        values = [group(chance, depth - 1) for _ in range(chance.randint(1, 3))]
    else:
        values = [criterion(chance) for _ in range(chance.randint(1, 3))]
    return {"type": chance.choice(["AND", "OR"]), "values": values}


def matches(tree, persons):
    return [person for person, properties in persons.items() if match_property_group(tree, properties, {})]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--groups", type=int, required=True)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    persons = generate_persons(chance)
    # It matches every person, so that no filter is negative at the top level.
    always = {"type": "person", "key": "always", "operator": "exact", "value": "yes"}
    groups, skipped = [], 0
    while len(groups) < options.groups:
        tree = {"type": "AND", "values": [{"type": "AND", "values": [always]}, group(chance, 2)]}
        try:
            groups.append({"filters": {"properties": tree}, "members": matches(tree, persons)})
        except InconclusiveMatchError as cause:
            skipped += 1
            if skipped > options.groups:
                sys.exit(f"the SDK skips too many groups: {cause}")
    print(json.dumps({"persons": persons, "groups": groups}))


if __name__ == "__main__":
    main()
