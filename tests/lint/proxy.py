"""Sends requests to each operation through a proxy that compares requests and responses with the contract.

The requests are the examples of the contract, and variants that cause documented errors.
It needs COHORTS_URL, COHORTS_KEY and COHORTS_TOKEN, in COHORTS_CONSOLE a command that prints an address of the console,
and the command of the proxy (Prism) as arguments.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

import requests

URL = os.environ["COHORTS_URL"]
KEY = os.environ["COHORTS_KEY"]
TOKEN = os.environ["COHORTS_TOKEN"]
METHODS = ("get", "put", "post", "delete", "patch")
CODE = subprocess.check_output(shlex.split(os.environ["COHORTS_CONSOLE"]), text=True).split()[0].rpartition("code=")[2]
# An id that no object has.
UNKNOWN = "999999999"

document = requests.get(f"{URL}/api/schema/").json()


def resolve(value):
    while "$ref" in value:
        target = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def examples(holder):
    """The examples of a parameter or media type, or else of its schema."""
    if "example" in holder:
        return [holder["example"]]
    if "examples" in holder:
        return [resolve(example)["value"] for example in holder["examples"].values()]
    schema = resolve(holder.get("schema", {}))
    return [schema["example"]] if "example" in schema else []


VALID = {"api_key": TOKEN, "token": TOKEN, "code": CODE}


def with_token(value):
    """Replaces the token of an example, which no project has, and the code for a session."""
    if isinstance(value, dict):
        return {key: with_token(VALID.get(key, inner)) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_token(inner) for inner in value]
    return value


def body(media_type, example):
    """The arguments of `requests` for a body."""
    example = with_token(example)
    if media_type == "application/json":
        return {"json": example}
    if media_type == "multipart/form-data":
        file = example.pop("csv", None)
        files = {name: (None, text(value)) for name, value in example.items()}
        if file is not None:
            files["csv"] = ("persons.csv", file, "text/csv")
        return {"files": files}
    if media_type == "application/x-www-form-urlencoded":
        return {"data": {name: text(value) for name, value in example.items()}}
    return {"data": text(example).encode(), "headers": {"Content-Type": media_type}}


def text(value):
    return value if isinstance(value, str) else json.dumps(value)


class Operation:
    def __init__(self, path, method, item, definition):
        self.path, self.method, self.definition = path, method, definition
        shared = [resolve(one) for one in item.get("parameters", [])]
        self.parameters = shared + [resolve(one) for one in definition.get("parameters", [])]
        self.schemes = {name for one in definition.get("security", []) for name in one}
        self.needs_key = "personalApiKey" in self.schemes
        content = definition.get("requestBody", {}).get("content", {})
        self.bodies = [body(media, example) for media, holder in content.items() for example in examples(holder)]

    def arguments(self, unknown=False):
        """The path and the query with the examples of the parameters, or with ids that no object has. No header is sent."""
        path, query = self.path, {}
        for parameter in self.parameters:
            name, values = parameter["name"], examples(parameter)
            if parameter["in"] == "header" or (name == "token" and parameter["in"] == "query"):
                continue
            if parameter["in"] == "path":
                value = UNKNOWN if unknown and name != "project_id" else TOKEN if name == "token" else values[0]
                path = path.replace("{" + name + "}", str(value))
            elif values:
                query[name] = text(values[0])
        return path, query

    def credentials(self):
        """The headers and the query with the key or the token."""
        if self.needs_key:
            return {"Authorization": f"Bearer {KEY}"}, {}
        if "projectTokenInHeader" in self.schemes:
            return {"Authorization": f"Bearer {TOKEN}"}, {}
        return {}, {"token": TOKEN} if "projectToken" in self.schemes else {}

    def variants(self):
        """Requests: what they try, whether they fit the contract, and their arguments."""
        key, token = self.credentials()
        path, query = self.arguments()
        bodies = self.bodies or [{}]
        for one in bodies:
            yield "example", True, path, {"params": query | token, **merged(one, key)}
        for name in query:
            yield f"only {name}", True, path, {"params": {name: query[name]} | token, **merged(bodies[0], key)}
        if self.bodies:
            wrong = {"data": "{", "headers": {"Content-Type": "application/json"}}
            yield "malformed body", False, path, merged(wrong, key)
            wrong = {"data": "<a/>", "headers": {"Content-Type": "application/xml"}}
            yield "other media type", False, path, merged(wrong, key)
        if self.needs_key:
            yield "no key", False, path, {"params": query, **bodies[0]}
            wrong = {"Authorization": "Bearer phx_wrong"}
            yield "wrong key", False, path, {"params": query, **merged(bodies[0], wrong)}
            other = {**key, "Accept": "image/png"}
            yield "other format", False, path, {"params": query, **merged(bodies[0], other)}
            path, _ = self.arguments(unknown=True)
            yield "unknown id", False, path, {"params": query, **merged(bodies[0], key)}


def merged(arguments, headers):
    return {**arguments, "headers": {**headers, **arguments.get("headers", {})}}


def is_stream(operation):
    """Whether the response does not end."""
    return any("text/event-stream" in response.get("content", {}) for response in operation["responses"].values())


def operations():
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item and not is_stream(item[method]):
                yield Operation(path, method, item, item[method])


def start(command):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # OpenAPI cannot express that a response may have no body. Without `content` no body is required.
    for response in document["components"]["responses"].values():
        if response.get("x-or-empty"):
            del response["content"]
    source = tempfile.NamedTemporaryFile("w", suffix=".json")
    json.dump(document, source)
    source.flush()
    command = [*command, "proxy", source.name, URL, "--port", str(port), "--host", "127.0.0.1"]
    proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return proxy, f"http://127.0.0.1:{port}", source
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the proxy does not start")


def main():
    # The file exists as long as the proxy runs.
    proxy, url, _file = start(sys.argv[1:])
    findings, count, statuses, untried = [], 0, {}, []
    try:
        # Deletions come last, because the others need the objects.
        for operation in sorted(operations(), key=lambda operation: operation.method == "delete"):
            succeeded = "2" not in "".join(status[0] for status in operation.definition["responses"])
            for name, fits, path, arguments in operation.variants():
                answer = requests.request(operation.method, url + path, timeout=60, **arguments)
                count += 1
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                succeeded |= answer.status_code < 300
                place = f"{operation.definition['operationId']}, {name}, {answer.status_code}"
                for violation in json.loads(answer.headers.get("sl-violations", "[]")):
                    if fits or violation["location"][0] == "response":
                        findings.append(f"{place}: {violation}")
                if answer.status_code >= 500:
                    findings.append(f"{place}: {answer.text}")
            if not succeeded:
                untried.append(operation.definition["operationId"])
    finally:
        # `npx` starts the proxy as a child of its own.
        os.killpg(proxy.pid, signal.SIGTERM)
        proxy.wait()
    print(f"{count} requests through the proxy, by status: {dict(sorted(statuses.items()))}")
    findings += [f"{one}: no request succeeded" for one in untried]
    if findings:
        raise SystemExit("\n".join(findings))


main()
