"""Gives schemathesis the data of the running service, which the contract does not contain: ids, a key, a token."""

import os

import requests
import schemathesis
from schemathesis.specs.openapi import checks

# After 60 wrong keys within a minute, the service refuses further ones with 429 instead of 401.
checks.AUTH_REJECTION_STATUSES = frozenset(checks.AUTH_REJECTION_STATUSES) | {429}

COHORTS = os.environ["COHORTS_URL"] + "/api/projects/1/cohorts/"
KEY = {"Authorization": "Bearer " + os.environ["COHORTS_KEY"]}
TOKEN = os.environ["COHORTS_TOKEN"]


def persons_of(cohort):
    answer = requests.get(f"{COHORTS}{cohort}/persons/?limit=5", headers=KEY)
    answer.raise_for_status()
    return [person["id"] for person in answer.json()["results"]]


def upload(persons):
    file = "person_id\n" + "\n".join(persons)
    requests.post(
        COHORTS,
        headers=KEY,
        data={"name": "Uploaded", "is_static": "true"},
        files={"csv": ("persons.csv", file, "text/csv")},
    ).raise_for_status()


def prefer(schema, values):
    """Generates one of `values` in about every second case."""
    other = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string", "enum": values}, other]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    components = raw_schema["components"]

    # OpenAPI cannot express that a response may have no body. Without `content` no body is required.
    for response in components["responses"].values():
        if response.get("x-or-empty"):
            del response["content"]

    persons = persons_of(1)
    upload(persons[:3])
    schemas = components["schemas"]
    prefer(schemas["PersonsToAdd"]["properties"]["person_ids"]["items"], persons)
    prefer(schemas["PersonToRemove"]["properties"]["person_id"], persons)
    for path in raw_schema["paths"].values():
        parameters = list(path.get("parameters", []))
        for operation in path.values():
            if isinstance(operation, dict):
                parameters += operation.get("parameters", [])
        for parameter in parameters:
            if parameter.get("name") in ("uuid", "person_id"):
                prefer(parameter["schema"], persons)

    # A generated name would often be that of an earlier request, so the request would not be carried out.
    del components["parameters"]["IdempotencyKey"]
    for path in raw_schema["paths"].values():
        parameters = path.get("post", {}).get("parameters", [])
        named = [one for one in parameters if one.get("$ref", "").endswith("/IdempotencyKey")]
        for parameter in named:
            parameters.remove(parameter)

    # Without the token of a project each capture request would end with 401.
    for name in ("CaptureBatch", "CaptureEvent"):
        schema = schemas[name]
        schema.setdefault("required", []).append("api_key")
        schema["properties"]["api_key"] = {"type": "string", "enum": [TOKEN]}
    components["parameters"]["CaptureToken"]["schema"]["enum"] = [TOKEN]
    for path in raw_schema["paths"].values():
        body = path.get("post", {}).get("requestBody", {}).get("content", {})
        example = body.get("application/json", {}).get("example", {})
        if "api_key" in example:
            example["api_key"] = TOKEN


@schemathesis.hook
def before_call(context, case, kwargs):
    # These paths take the token as the key.
    if case.path.startswith("/i/v1/"):
        case.headers["Authorization"] = "Bearer " + TOKEN
