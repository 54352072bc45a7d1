"""Sends persons and events through the unmodified `posthog-js` SDK in headless Chromium, from a page of another origin
and through a proxy that sometimes answers 503, and prints the expected data of the service as one line of JSON: each
person with all distinct ids and properties (the SDK adds further ones), and each event with a distinct id of its
person.

It fails with a message if an event is missing or superfluous, if the console shows an error other than the 503, or if
the page sends a request to another host. Exit status 77 means that the SDK, Chromium or chromedriver is not installed.
The SDK comes from the folder COHORTS_TEST_NODE_MODULES, or from a node_modules above this file.
"""

import argparse
import base64
import collections
import contextlib
import gzip
import http.client
import http.server
import json
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "browser"))
from swagger import SKIPPED, Browser, Failure, chromedriver

PAGE = b"""<!doctype html><html lang="en"><title>A shop</title><link rel="icon" href="data:,">
<script src="/posthog.js"></script></html>"""

# The SDK sends only what the test captures, and logs all its errors to the console.
OPTIONS = {
    "debug": True,
    "persistence": "localStorage",
    "person_profiles": "always",
    "request_batching": True,
    "request_queue_config": {"flush_interval_ms": 250},
    "opt_out_useragent_filter": True,
    "advanced_disable_flags": True,
    "disable_external_dependency_loading": True,
    "disable_session_recording": True,
    "disable_surveys": True,
    "autocapture": False,
    "capture_pageview": False,
    "capture_pageleave": False,
    "capture_performance": False,
}

# Messages of the browser and of the SDK about a request that the proxy rejected.
REFUSAL_SIGNS = ["the server responded with a status of 503", "Bad HTTP status: 503"]

DAY = "const day = 24 * 60 * 60 * 1000;"


def bundle():
    modules = os.environ.get("COHORTS_TEST_NODE_MODULES")
    folders = [pathlib.Path(modules)] if modules else [parent / "node_modules" for parent in HERE.parents]
    folders = [folder / "posthog-js" for folder in folders]
    return next((folder for folder in folders if (folder / "package.json").is_file()), None)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def shop(sdk):
    """The handler of the page."""

    class Shop(Handler):
        def do_GET(self):
            if self.path == "/posthog.js":
                self.reply(200, [("Content-Type", "text/javascript; charset=utf-8")], sdk)
            else:
                self.reply(200, [("Content-Type", "text/html; charset=utf-8")], PAGE)

    return Shop


class Traffic:
    """The requests that the proxy received."""

    def __init__(self):
        self.lock = threading.Lock()
        # The results of the next requests with events; later ones pass.
        self.fates = []
        self.refused = 0
        self.delivered = {}
        self.seen = set()
        self.errors = []

    def fate(self):
        with self.lock:
            fate = self.fates.pop(0) if self.fates else "passed"
            self.refused += fate != "passed"
            return fate

    def deliver(self, items):
        with self.lock:
            self.delivered |= {item["uuid"]: item for item in items}


def proxy(base, traffic):
    """The handler between the page and the service."""
    service = urllib.parse.urlsplit(base)

    class Proxy(Handler):
        def pass_on(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            items = events_in(body) if self.command == "POST" else []
            fate = traffic.fate() if items else "passed"
            if fate != "refused":
                status, headers, answer = self.ask_service(body)
                if status >= 300:
                    excerpt = answer[:200].decode(errors="replace")
                    traffic.errors.append(f"{self.command} {self.path} got the status {status}: {excerpt}")
            if fate == "passed":
                self.reply(status, headers, answer)
                traffic.deliver(items)
            else:
                origin = ("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
                self.reply(503, [origin, ("Retry-After", "1")], b"")

        def ask_service(self, body):
            traffic.seen.add(f"{self.command} {self.headers.get('Content-Type', '').split(';')[0]}".strip())
            ours = ("host", "connection", "content-length", "accept-encoding", "transfer-encoding", "date", "server")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ours}
            with contextlib.closing(http.client.HTTPConnection(service.hostname, service.port, timeout=30)) as connection:
                try:
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in ours]
                    return answer.status, headers, answer.read()
                except (OSError, http.client.HTTPException) as cause:
                    return 502, [], str(cause).encode()

        do_GET = do_POST = do_OPTIONS = pass_on

    return Proxy


def events_in(body):
    """The events in a body of the SDK."""
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    elif body.startswith(b"data="):
        body = base64.b64decode(urllib.parse.parse_qs(body.decode())["data"][0])
    read = json.loads(body)
    return read.get("batch", []) if isinstance(read, dict) else read


@contextlib.contextmanager
def serving(handler):
    """Serves the handler on a free port, and yields the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Visit:
    """The browser of a visitor, and the events that the service should receive."""

    def __init__(self, browser, page, host, token, traffic):
        self.browser = browser
        self.page = page
        self.init = [token, {**OPTIONS, "api_host": host}]
        self.traffic = traffic
        self.expected = []

    def open(self, **options):
        """Returns the visitor's distinct id."""
        self.browser.open(self.page)
        token, usual = self.init
        return self.run("posthog.init(...arguments); return posthog.get_distinct_id();", token, usual | options)

    def run(self, script, *arguments, expect=()):
        """`expect` has the events that the script causes: distinct id, name, and age in days."""
        self.expected += [(*event, 0)[:3] for event in expect]
        return self.browser.run(DAY + script, *arguments)

    def wait(self):
        """Waits until all expected events are delivered."""

        def missing():
            for error in self.traffic.errors:
                raise Failure(error)
            with self.traffic.lock:
                delivered = [(item_id(item), item["event"]) for item in self.traffic.delivered.values()]
            expected = collections.Counter(one[:2] for one in self.expected)
            delivered = collections.Counter(delivered)
            if extra := delivered - expected:
                raise Failure(f"unexpected events are delivered: {dict(extra)}")
            return expected - delivered

        try:
            self.browser.wait_until(lambda: not missing(), "")
        except Failure as failure:
            raise Failure(str(failure) or f"not delivered: {dict(missing())}") from None


def item_id(item):
    return item.get("distinct_id") or item["properties"]["distinct_id"]


def shopping(visit):
    """The actions of four visitors, two of them the same person; returns the expected persons."""
    fates = visit.traffic.fates

    first = visit.open()
    visit.run(
        """
        posthog.capture("visited", { title: "Grüße 🦊", $set: { campaign: "spring", plan: "free" } });
        posthog.capture("signed up", { seats: 5 }, { timestamp: new Date(Date.now() - 40 * day) });
        """,
        expect=[(first, "visited"), (first, "signed up", 40)],
    )
    visit.wait()

    # The SDK sends identify at once and batches the other events. It retries rejected requests after a few seconds,
    # when later events are already delivered.
    fates += ["refused", "response lost"]
    visit.run(
        """
        posthog.identify("carl", { plan: "pro", name: "Carl Ångström" }, { campaign: "autumn", source: "letter" });
        for (const amount of [49.5, 12, 7]) {
            posthog.capture("order placed", { amount });
        }
        posthog.alias("carl-phone");
        posthog.setPersonProperties({ seats: 5, tags: ["a", "b"] }, { colour: "red" });
        posthog.group("company", "acme", { size: 7 });
        """,
        expect=[
            ("carl", "$identify"),
            *[("carl", "order placed")] * 3,
            *[("carl", "$create_alias"), ("carl", "$set"), ("carl", "$groupidentify")],
        ],
    )
    visit.wait()

    # Events that are queued when the page is left are sent by a beacon.
    visit.run(
        """
        posthog.capture("cart left", { amount: 3 }, { transport: "sendBeacon" });
        posthog.capture("page left");
        posthog.setPersonProperties({ seats: 6 }, { source: "poster", colour: "blue" });
        """,
        expect=[("carl", "cart left"), ("carl", "page left"), ("carl", "$set")],
    )
    visit.browser.open("about:blank")
    visit.wait()

    # Without compression the browser sends a preflight request.
    if visit.open(disable_compression=True) != "carl":
        raise Failure("the SDK lost the distinct id")
    visit.run(
        """
        posthog.capture("visited");
        posthog.capture("searched", { words: "größer" }, { transport: "sendBeacon" });
        """,
        expect=[("carl", "visited"), ("carl", "searched")],
    )
    visit.wait()

    # After a reset the SDK has a new distinct id.
    second = visit.run("posthog.reset(); return posthog.get_distinct_id();")
    visit.run(
        """
        posthog.capture("visited", { $set: { referrer: "poster", plan: "free", seats: 1 } });
        posthog.capture("visited", {}, { timestamp: new Date(Date.now() - 3 * day) });
        """,
        expect=[(second, "visited"), (second, "visited", 3)],
    )
    visit.wait()
    # Two known persons are merged, once although the response is lost.
    fates += ["response lost"]
    visit.run(
        """
        posthog.identify("carl", { city: "Malmö" }, { referrer: "letter" });
        posthog.capture("order placed", { amount: 4 });
        """,
        expect=[("carl", "$identify"), ("carl", "order placed")],
    )
    visit.wait()

    # The event before identify arrives after it.
    third = visit.run("posthog.reset(); return posthog.get_distinct_id();")
    visit.run(
        """
        posthog.capture("visited");
        posthog.identify("dora", { plan: "free" });
        posthog.capture("order placed", { amount: 1 });
        """,
        expect=[(third, "visited"), ("dora", "$identify"), ("dora", "order placed")],
    )
    visit.wait()
    fourth = visit.run("posthog.reset(); return posthog.get_distinct_id();")
    visit.run("posthog.capture('visited');", expect=[(fourth, "visited")])
    visit.wait()

    return [
        {
            "distinct_ids": sorted([first, second, "carl", "carl-phone"]),
            "properties": {
                "campaign": "spring",
                "city": "Malmö",
                "colour": "red",
                "name": "Carl Ångström",
                "plan": "pro",
                "referrer": "poster",
                "seats": 6,
                "source": "letter",
                "tags": ["a", "b"],
            },
        },
        {"distinct_ids": sorted([third, "dora"]), "properties": {"plan": "free"}},
        {"distinct_ids": [fourth], "properties": {}},
    ]


def refuse_errors(browser, traffic, hosts):
    if traffic.fates:
        raise Failure(f"the proxy received too few requests: {traffic.fates}")
    ways = {"OPTIONS", "POST text/plain", "POST application/json", "POST application/x-www-form-urlencoded"}
    if missing := ways - traffic.seen:
        raise Failure(f"the browser did not send {', '.join(sorted(missing))}")
    for entry in browser.log("browser"):
        deliberate = any(sign in entry["message"] for sign in REFUSAL_SIGNS)
        if entry["level"] == "SEVERE" and not deliberate:
            raise Failure(f"the console shows an error: {entry['message']}")
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith((*hosts, "about:", "blob:", "chrome:", "data:")):
                raise Failure(f"the page sends a request to another host: {url}")


def result(visit, persons, version):
    def person(distinct_id):
        return next(one["distinct_ids"][0] for one in persons if distinct_id in one["distinct_ids"])

    events = [{"event": event, "person": person(one), "days_ago": days} for one, event, days in visit.expected]
    return {"sdk": version, "persons": persons, "events": events, "refused_by_proxy": visit.traffic.refused}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("base", help="the base URL of the service")
    arguments.add_argument("token", help="the project's token, phc_…")
    arguments.add_argument("--chromium", help="the browser's program")
    arguments.add_argument("--chromedriver", default="chromedriver", help="the driver's program")
    options = arguments.parse_args()

    chromium = options.chromium or next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    driver = shutil.which(options.chromedriver)
    folder = bundle()
    if not chromium or not driver or not folder:
        print("Chromium, chromedriver or posthog-js is not installed", file=sys.stderr)
        sys.exit(SKIPPED)
    version = json.loads((folder / "package.json").read_text())["version"]
    traffic = Traffic()
    try:
        with contextlib.ExitStack() as stack:
            page = stack.enter_context(serving(shop((folder / "dist" / "array.js").read_bytes())))
            host = stack.enter_context(serving(proxy(options.base.rstrip("/"), traffic)))
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            address = stack.enter_context(chromedriver(driver))
            browser = Browser(address, chromium, profile)
            stack.callback(browser.close)
            visit = Visit(browser, page, host, options.token, traffic)
            persons = shopping(visit)
            refuse_errors(browser, traffic, (page, host))
            print(json.dumps(result(visit, persons, version)))
    except Failure as failure:
        sys.exit("posthog-js: " + " ".join(str(failure).split()))


if __name__ == "__main__":
    main()
