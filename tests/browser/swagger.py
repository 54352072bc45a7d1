"""Opens the service's Swagger UI in headless Chromium and uses it like a user.

With --key it authorizes with a personal key, reloads the page, and executes an operation with the key of before.
Without a key the service must be a demo. Its page offers credentials and values, and the script executes every operation
with them, deletions at the end: once for each media type of the request and of the response. It leaves out streams, which
do not end, and the operation that needs a code. A file that the page asks for is the contract's example of a CSV file. Every response must have a status of success, if the operation has one.

It fails with a message if the page or the console shows an error, if a request goes to another host, if the page does not
show the scopes of an operation, or if an operation fails. Exit status 77 means that Chromium or chromedriver is not
installed. It needs only Python's standard library, and controls chromedriver by plain HTTP.
"""

import argparse
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE = 30
# The operation needs a code, which the page cannot offer to everyone.
NEEDS_CODE = "console_session_create"
SKIPPED = 77

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--window-size=1400,2400",
]

# Elements that Swagger UI shows if the document cannot be loaded, read or resolved.
ERROR_SIGNS = [".errors-wrapper", ".failed-config", ".loading-container .info .title.failed"]
REQUEST_TYPES = ".body-param-content-type select"
RESPONSE_TYPES = ".response-control-media-type--accept-controller select"
RESPONSE = ".live-responses-table .response"
ERROR_WORDS = ["Failed to load API definition", "Unable to render this definition", "Parser error", "Resolver error"]


class Failure(Exception):
    """A failed check, with a message for the developer."""


class Browser:
    """A session of the WebDriver protocol, reduced to the needs of the tests."""

    def __init__(self, driver, chromium, profile):
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": chromium}
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session = driver
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"{driver}/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            detail = json.load(error)["value"]
            raise Failure(f"{detail['error']}: {detail['message'].splitlines()[0]}") from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector):
        """The elements on the page that match the selector."""
        return [
            f"/element/{element[ELEMENT]}"
            for element in self.call("POST", "/elements", {"using": "css selector", "value": selector})
        ]

    def wait_for(self, selector, meanwhile=lambda: None):
        """Waits for an element that matches the selector."""

        def look():
            meanwhile()
            return self.find(selector)

        return self.wait_until(look, f"nothing on the page matches {selector}")[0]

    def wait_until(self, look, message):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if result := look():
                return result
            time.sleep(0.05)
        raise Failure(message)

    def click(self, selector):
        element = self.wait_for(selector)
        self.run("arguments[0].click()", {ELEMENT: element.removeprefix("/element/")})

    def choose(self, selector, option):
        """Selects an option. React notices a change only if the value is set below it."""
        element = self.wait_for(selector)
        script = """
            const [select, option] = arguments;
            Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, "value").set.call(select, option);
            select.dispatchEvent(new Event("change", {bubbles: true}));
        """
        self.run(script, {ELEMENT: element.removeprefix("/element/")}, option)

    def fill(self, selector, text):
        element = self.wait_for(selector)
        self.call("POST", f"{element}/clear", {})
        self.call("POST", f"{element}/value", {"text": text})

    def text(self, selector):
        return self.call("GET", f"{self.wait_for(selector)}/text")

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def close(self):
        self.call("DELETE", "")


class Block:
    """An operation on the page. Only one is unfolded at a time, because the page is slow with many."""

    def __init__(self, browser, operation):
        self.browser = browser
        self.selector = f"[id^='operations-'][id$='-{operation}']"

    def unfold(self):
        """Shows the operation. The page fetches its parts meanwhile."""
        self.click(".opblock-summary-control")
        self.browser.wait_for(self.inside("button.execute"))
        self.wait_until_gone(".opblock-loading-animation")

    def fold(self):
        self.click(".opblock-summary-control")
        self.wait_until_gone(".opblock-body")

    def inside(self, selector):
        return ", ".join(f"{self.selector} {one}" for one in selector.split(", "))

    def click(self, selector):
        self.browser.click(self.inside(selector))

    def text(self, selector):
        return self.browser.run("return document.querySelector(arguments[0]).innerText", self.inside(selector))

    def wait_until_gone(self, selector):
        gone = lambda: not self.browser.find(self.inside(selector))
        self.browser.wait_until(gone, f"{self.inside(selector)} stays on the page")

    def media_types(self, selector):
        """The options of a list of media types; a single `None` without a list."""
        script = "return [...document.querySelectorAll(arguments[0])].map((option) => option.value)"
        return self.browser.run(script, self.inside(f"{selector} option")) or [None]

    def attempts(self):
        """The pairs of media types, of request and response, that the page offers."""
        for request in self.media_types(REQUEST_TYPES):
            for response in self.media_types(RESPONSE_TYPES):
                yield request, response

    def execute(self, request, response, file):
        """The status of the response, or the faults that the page finds in its own values; and its text."""
        if request:
            self.browser.choose(self.inside(REQUEST_TYPES), request)
        if response:
            self.browser.choose(self.inside(RESPONSE_TYPES), response)
        for element in self.browser.find(self.inside("input[type='file']")):
            self.browser.call("POST", f"{element}/value", {"text": file})
        self.click("button.execute")
        self.browser.wait_for(self.inside(f"{RESPONSE} .response-col_status, .validation-errors"))
        if self.browser.find(self.inside(".validation-errors")):
            return None, self.text(".validation-errors")
        status = self.text(f"{RESPONSE} .response-col_status").split()[0]
        text = f"{self.text('.curl-command')} {self.text(RESPONSE)}"
        self.click("button.btn-clear")
        self.wait_until_gone(RESPONSE)
        return status, text


def open_page(browser, base):
    browser.open(f"{base}/docs/")
    browser.wait_for(".swagger-ui .opblock", meanwhile=lambda: refuse_errors(browser))
    refuse_errors(browser)


def check_key(browser, base, key, project, operation):
    """A key that was entered is still there after a reload, in storage that ends with the tab."""
    open_page(browser, base)
    browser.click(".auth-wrapper button.authorize")
    browser.fill(".auth-container input[aria-label='auth-bearer-value'], .auth-container input[type='text']", key)
    browser.click(".modal-ux button.authorize")
    browser.wait_for(".modal-ux .auth-btn-wrapper button[aria-label='Remove authorization']")
    open_page(browser, base)
    if key in browser.run("return JSON.stringify(localStorage) + document.cookie"):
        raise Failure("the key is in storage that outlives the tab")

    block = Block(browser, operation)
    block.unfold()
    browser.fill(block.inside("tr[data-param-name='project_id'] input"), project)
    status, text = block.execute(None, None, None)
    if status != "200":
        raise Failure(f"{operation} got the status {status} after a reload: {text[:400]}")
    refuse_console_errors(browser, [])
    requests = refuse_other_hosts(browser, base)
    return f"{operation} answered with {status}, {requests} requests, all to {base}"


def check_operations(browser, base, directory):
    """Every operation succeeds with what the page offers."""
    document = json.load(urllib.request.urlopen(f"{base}/api/schema/"))
    operations = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
        if "operationId" in operation
    }
    file = directory / "persons.csv"
    file.write_text(example_of(document, "text/csv"), newline="")
    open_page(browser, base)
    refuse_console_errors(browser, [])
    check_frame(browser)
    shown = browser.run("return [...document.querySelectorAll('.opblock')].map((block) => block.id)")
    shown = [next((name for name in operations if block.endswith(f"-{name}")), block) for block in shown]
    if sorted(shown) != sorted(operations):
        raise Failure(f"the page shows other operations than the document: {set(shown) ^ set(operations)}")

    tried, failures = 0, []
    # Deletions come last, because the others need the objects.
    deletions = {operation["operationId"] for path in document["paths"].values() for operation in [path.get("delete")] if operation}
    for name in sorted(shown, key=lambda name: name in deletions):
        for failure in try_operation(Block(browser, name), operations[name], str(file)):
            tried += 1
            failures += failure
    if failures:
        raise Failure("\n".join(failures))
    refuse_errors(browser)
    refuse_console_errors(browser, ["network"])
    refuse_other_hosts(browser, base)
    return f"{len(shown)} operations succeed in {tried} attempts"


def check_frame(browser):
    """The page has its own title, leads to the console, and folds the operations of capture, which this unfolds."""
    title, console = browser.run("return [document.title, document.querySelector('.to-console')?.getAttribute('href')]")
    if (title, console) != ("API · Cohorts", "/"):
        raise Failure(f"the page has the title {title}, and leads to the console by {console}")
    folded = browser.run("return [...document.querySelectorAll('.opblock-tag[data-is-open=false]')].map((tag) => tag.dataset.tag)")
    if folded != ["console", "capture"]:
        raise Failure(f"the page folds {folded}")
    if not browser.find(".info details:not([open])"):
        raise Failure("the page does not fold the details of the description")
    for tag in folded:
        browser.click(f".opblock-tag[data-tag='{tag}']")
        browser.wait_for(f".opblock-tag[data-tag='{tag}'][data-is-open=true]")
        browser.wait_for(f"[id^='operations-{tag}-']")


def try_operation(block, operation, file):
    """The failures of each attempt."""
    name = operation["operationId"]
    block.unfold()
    description = block.text(".opblock-body")
    scopes = [scope for scope in operation.get("x-required-scopes", []) if scope not in description]
    if scopes:
        raise Failure(f"the page does not show that {name} needs {scopes}")
    if is_stream(operation) or name == NEEDS_CODE:
        block.fold()
        return
    statuses = operation["responses"].keys()
    expected = [status for status in statuses if status.startswith("2")] or statuses
    for request, response in list(block.attempts()):
        status, text = block.execute(request, response, file)
        text = " ".join(text.split())
        yield [] if status in expected else [f"{name} ({request}, {response}) got {status}: {text[:1500]}"]
    block.fold()


def is_stream(operation):
    """Whether the response does not end. The page shows a response only after its end."""
    responses = operation["responses"].values()
    return any("text/event-stream" in response.get("content", {}) for response in responses)


def example_of(document, media_type):
    """The first example of the media type."""
    if isinstance(document, list):
        document = dict(enumerate(document))
    if not isinstance(document, dict):
        return None
    example = document.get(media_type)
    if isinstance(example, dict) and "example" in example:
        return example["example"]
    return next(filter(None, (example_of(value, media_type) for value in document.values())), None)


def refuse_errors(browser):
    for sign in ERROR_SIGNS:
        for element in browser.find(sign):
            raise Failure(f"the page shows an error: {browser.call('GET', f'{element}/text')}")
    body = browser.run("return document.body.innerText")
    for words in ERROR_WORDS:
        if words.lower() in body.lower():
            at = body.lower().index(words.lower())
            raise Failure(f"the page shows an error: {body[at : at + 400]}")


def refuse_console_errors(browser, ignored_sources):
    errors = [
        entry["message"]
        for entry in browser.log("browser")
        if entry["level"] == "SEVERE" and entry["source"] not in ignored_sources
    ]
    if errors:
        raise Failure(f"the console shows an error: {errors[0]}")


def refuse_other_hosts(browser, base):
    """Returns the number of requests to the service."""
    count = 0
    for entry in browser.log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] != "Network.requestWillBeSent":
            continue
        url = message["params"]["request"]["url"]
        if url.startswith(f"{base}/"):
            count += 1
        elif urllib.parse.urlsplit(url).scheme not in ("about", "blob", "chrome", "data"):
            raise Failure(f"the page sends a request to another host: {url}")
    return count


@contextlib.contextmanager
def chromedriver(program):
    """Starts the program on a free port, and yields its address."""
    driver = subprocess.Popen([program, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        for line in driver.stdout:
            started = re.search(r"started successfully on port (\d+)", line)
            if started:
                yield f"http://127.0.0.1:{started[1]}"
                return
        raise Failure(f"{program} did not start")
    finally:
        driver.terminate()
        driver.wait()


def run(browser, options, directory):
    base = options.base.rstrip("/")
    if options.key:
        return check_key(browser, base, options.key, options.project, options.operation)
    return check_operations(browser, base, directory)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("base", help="the base URL of the service")
    arguments.add_argument("--key", help="a personal key, phx_…, with the scope cohort:read")
    arguments.add_argument("--project", default="@current", help="with a key: the project to try the operation on")
    arguments.add_argument("--operation", default="cohorts_list", help="with a key: the operation to try out")
    arguments.add_argument("--chromium", help="the browser's program")
    arguments.add_argument("--chromedriver", default="chromedriver", help="the driver's program")
    options = arguments.parse_args()

    chromium = options.chromium or next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    driver = shutil.which(options.chromedriver)
    if not chromium or not driver:
        print("Chromium or chromedriver is not installed", file=sys.stderr)
        sys.exit(SKIPPED)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromedriver(driver) as address:
            browser = Browser(address, chromium, profile)
            try:
                print(run(browser, options, pathlib.Path(profile)))
            finally:
                browser.close()
    except Failure as failure:
        sys.exit(f"Swagger UI: {failure}")


if __name__ == "__main__":
    main()
