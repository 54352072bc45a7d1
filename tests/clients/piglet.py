"""Creates, lists, changes and deletes cohorts with the unmodified command `piglet` (PyPI's cased-piglet), and reads the
project. Prints the created cohorts as one line of JSON.

The command takes the host, the key and the project from options, from the environment (POSTHOG_HOST, POSTHOG_API_KEY,
POSTHOG_PROJECT_ID) or from ~/.piglet/config.toml. Each way is used at least once. A host may be any URL.

The command runs as a separate process in an empty home directory. This script has the name of the package, so it must
not import the package.

Exit status 77 means that the package is not installed, 1 that a response is not as expected.
"""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from common import absent, arguments, holds, same

try:
    VERSION = importlib.metadata.version("cased-piglet")
except ImportError as cause:
    absent("cased-piglet", cause)


class Piglet:
    def __init__(self, home, settings):
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("POSTHOG_")}
        self.environment = inherited | settings | {"HOME": home, "COLUMNS": "200"}

    def run(self, *words):
        # `-m` looks for modules in the current directory, which is empty, and not in the directory of this script.
        command = [sys.executable, "-m", "piglet", *words]
        return subprocess.run(command, cwd=self.home, env=self.environment, capture_output=True, text=True, timeout=60)

    def says(self, *words):
        """The output of the command, which must succeed."""
        process = self.run(*words)
        same(f"{words} ends with {process.stdout}{process.stderr}and status", process.returncode, 0)
        return process.stdout

    def json(self, *words):
        return json.loads(self.says("--json", *words))

    def fails(self, message, *words):
        process = self.run(*words)
        same(f"the status of {words}", process.returncode, 1)
        holds(f"{words} has the message", message in process.stderr, process.stderr)


def cohorts(piglet):
    """The life of a dynamic and of a static cohort."""
    # The command sends the legacy `groups: []`.
    made = piglet.json("cohorts", "create", "--name", "Young ones", "--description", "Born late")
    number = str(made["id"])
    same("the name", made["name"], "Young ones")
    same("the description", made["description"], "Born late")
    same("whether it is static", made["is_static"], False)
    same("the groups", made["groups"], [])
    same("whether it is deleted", made["deleted"], False)

    # The command sends neither `groups` nor `filters`.
    fixed = piglet.json("cohorts", "create", "--name", "Hand-picked", "--static")
    same("whether it is static", fixed["is_static"], True)

    shown = piglet.json("cohorts", "get", number)
    same("the cohort that is shown", shown["id"], made["id"])
    same("its creator", shown["created_by"], made["created_by"])

    def listed(*words):
        return {cohort["id"] for cohort in piglet.json("cohorts", "list", *words)}

    both = {made["id"], fixed["id"]}
    # Without an option the command lists like `--dynamic`.
    same("the cohorts in the list", listed() & both, {made["id"]})
    same("the static ones", listed("--static") & both, {fixed["id"]})
    same("the dynamic ones", listed("--dynamic") & both, {made["id"]})
    same("how many a limit leaves", len(listed("--limit", "1")), 1)

    changed = piglet.json("cohorts", "update", number, "--name", "Younger ones")
    same("the changed name", changed["name"], "Younger ones")
    same("the description that was not given", changed["description"], "Born late")
    changed = piglet.json("cohorts", "update", number, "--description", "Born later")
    same("the name that was not given", changed["name"], "Younger ones")
    same("the changed description", changed["description"], "Born later")

    # As text, with the email address of the creator, and as a table.
    lines = piglet.says("--plain", "cohorts", "get", number).splitlines()
    for line in [
        f"ID: {number}",
        "Name: Younger ones",
        "Description: Born later",
        "Static: No",
        f"Created By: {made['created_by']['email']}",
    ]:
        holds(f"the line {line!r}", line in lines, lines)
    same("the head", piglet.says("--plain", "cohorts", "list").splitlines()[0], "ID\tName\tCount\tStatic\tCreated")
    table = piglet.says("cohorts", "list", "--static")
    holds("the table", "Hand-picked" in table and "Younger ones" not in table, table)
    message = piglet.says("cohorts", "update", str(fixed["id"]), "--name", "Picked by hand")
    holds("the message of a change", f"Cohort {fixed['id']} updated successfully!" in message, message)

    # The command sends `deleted: true`.
    same("the deletion", piglet.json("cohorts", "delete", number, "--yes"), {"deleted": True, "id": made["id"]})
    same("the dynamic ones that are left", listed("--dynamic") & both, set())
    same("the static ones that are left", listed("--static") & both, {fixed["id"]})
    same("whether it is deleted", piglet.json("cohorts", "get", number)["deleted"], True)
    piglet.fails("Resource not found", "cohorts", "get", "999999999")
    return {"deleted": made["id"], "kept": fixed["id"]}


def projects(piglet, given):
    page = piglet.json("projects", "list")
    same("the projects", [project["id"] for project in page["results"]], [given.project])
    same("their count", page["count"], 1)
    project = piglet.json("projects", "get", str(given.project))
    same("the project", project, page["results"][0])
    if given.token:
        same("the token", project["api_token"], given.token)
    lines = piglet.says("--plain", "projects", "get", str(given.project)).splitlines()
    expected = [
        f"ID: {project['id']}",
        f"Name: {project['name']}",
        f"API Token: {project['api_token']}",
        f"Created: {project['created_at']}",
    ]
    same("the project as text", lines, expected)
    return {"id": project["id"], "name": project["name"]}


def main():
    given = arguments(__doc__)
    with tempfile.TemporaryDirectory() as home:
        settings = {
            "POSTHOG_HOST": given.host,
            "POSTHOG_API_KEY": given.key,
            "POSTHOG_PROJECT_ID": str(given.project),
        }
        piglet = Piglet(home, settings)
        made = cohorts(piglet)
        project = projects(piglet, given)

        Piglet(home, settings | {"POSTHOG_API_KEY": "phx_wrong"}).fails("Error: Invalid API key", "cohorts", "list")
        piglet.fails("Resource not found", "--project-id", "999999999", "cohorts", "list")

        bare = Piglet(home, {})
        options = ["--host", given.host + "/", "--api-key", given.key, "--project-id", str(given.project)]
        same("the cohort by options", bare.json(*options, "cohorts", "get", str(made["kept"]))["id"], made["kept"])
        config = pathlib.Path(home, ".piglet", "config.toml")
        config.parent.mkdir()
        config.write_text(f'host = "{given.host}"\napi_key = "{given.key}"\nproject_id = {given.project}\n')
        same("the cohort by a file", bare.json("cohorts", "get", str(made["kept"]))["id"], made["kept"])
    print(json.dumps({"client": "cased-piglet", "version": VERSION, "cohorts": made, "project": project}))


if __name__ == "__main__":
    main()
