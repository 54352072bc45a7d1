"""Opens the service's Swagger UI in headless Chromium and uses it like a user: unfolds the operations, authorizes with
a personal key, and executes an operation.

It fails with a message if the page or the console shows an error, if a request goes to another host, or if the
response of the operation is not 200. Exit status 77 means that Chromium or chromedriver is not installed. It needs only
Python's standard library, and controls chromedriver by plain HTTP.
"""

import argparse
import contextlib
import json
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
        self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: element.removeprefix("/element/")})
        self.call("POST", f"{element}/click", {})

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


def check(browser, base, key, project, operation):
    browser.open(f"{base}/docs/")
    browser.wait_for(".swagger-ui .opblock", meanwhile=lambda: refuse_errors(browser))
    # Swagger UI resolves the references of an operation when it is unfolded.
    for element in browser.find(".swagger-ui .opblock-summary-control"):
        browser.run("arguments[0].click()", {ELEMENT: element.removeprefix("/element/")})
    operations = len(browser.find(".swagger-ui .opblock"))
    # A deprecated operation that is unfolded has no class `is-open`.
    browser.wait_until(lambda: len(browser.find(".swagger-ui .opblock .opblock-body")) == operations, "not all operations unfold")
    refuse_errors(browser)

    browser.click(".auth-wrapper button.authorize")
    browser.fill(".auth-container input[aria-label='auth-bearer-value'], .auth-container input[type='text']", key)
    browser.click(".modal-ux button.authorize")
    browser.wait_for(".modal-ux .auth-btn-wrapper button[aria-label='Remove authorization']")
    browser.click(".modal-ux .btn-done")

    block = f"[id^='operations-'][id$='-{operation}']"
    browser.click(f"{block} .try-out__btn")
    browser.fill(f"{block} tr[data-param-name='project_id'] input", project)
    browser.click(f"{block} button.execute")
    answer = f"{block} .live-responses-table .response"
    status = browser.text(f"{answer} .response-col_status").split()[0]
    if status != "200":
        raise Failure(f"{operation} got the status {status}: {browser.text(answer)[:400]}")
    url = browser.text(f"{block} .request-url pre")
    if not url.startswith(f"{base}/"):
        raise Failure(f"{operation} was sent to {url} instead of {base}")

    refuse_errors(browser)
    requests = refuse_other_hosts(browser, base)
    refuse_console_errors(browser)
    return f"{operations} operations shown, {operation} answered with {status}, {requests} requests, all to {base}"


def refuse_errors(browser):
    for sign in ERROR_SIGNS:
        for element in browser.find(sign):
            raise Failure(f"the page shows an error: {browser.call('GET', f'{element}/text')}")
    body = browser.run("return document.body.innerText")
    for words in ERROR_WORDS:
        if words.lower() in body.lower():
            at = body.lower().index(words.lower())
            raise Failure(f"the page shows an error: {body[at : at + 400]}")


def refuse_console_errors(browser):
    errors = [entry["message"] for entry in browser.log("browser") if entry["level"] == "SEVERE"]
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


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("base", help="the base URL of the service")
    arguments.add_argument("key", help="a personal key, phx_…, with the scope cohort:read")
    arguments.add_argument("--project", default="@current", help="the project to try the operation on")
    arguments.add_argument("--operation", default="cohorts_list", help="the operation to try out")
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
                print(check(browser, options.base.rstrip("/"), options.key, options.project, options.operation))
            finally:
                browser.close()
    except Failure as failure:
        sys.exit("Swagger UI: " + " ".join(str(failure).split()))


if __name__ == "__main__":
    main()
