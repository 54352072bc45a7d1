#!/usr/bin/env python3
"""The made-up population in three other databases, which answer the same kinds of cohort.

The peers are chdb (ClickHouse within this process), DuckDB (likewise) and Postgres (a private cluster that listens on a
socket only). They need Python 3.9 or newer with the packages chdb, duckdb and psycopg[binary], and the programs of
Postgres 14 or newer, with its extension pg_trgm: those of --postgres-bin, or else those on the PATH, or else the newest
under /usr/lib/postgresql. Root runs them as the account "postgres" or, where there is none, "nobody".

    peers.py load STORE PEOPLE.csv EVENTS.csv [--postgres-bin DIR]

fills each peer that STORE does not hold in full yet, and prints one line per peer in any case:
{"peer":"chdb","load_seconds":..,"bytes":..,"rows":..}; for Postgres also "table_bytes" and "index_bytes". The columns are
    person,plan,country,age,email,company,signed_up      a person is a number from 0 on
    event,name,time,person,browser,url,price             an event is the number of its name; only some have a price
with times like 2026-11-25T12:34:56.789Z; no text holds quotes or backslashes, for they become JSON as they are.

    peers.py serve STORE [--postgres-bin DIR]

prints {"ready":[..],"versions":{..}} and then answers each line of its input with a line, until the input ends:
    {"peer":"duckdb","kind":"Q1","now":"2026-11-25T12:34:56.789123Z"} -> {"count":..,"checksum":..,"ms":..}
    {"page_after":1234}                                               -> {"rows":..,"ms":..}
    whatever cannot be answered                                       -> {"error":".."}
The checksum is the XOR over all people found of their number * 2654435761, as an unsigned number of 64 bits; ms is the
time of the whole statement. All windows reach back from `now`, to the microsecond. Where a line also has "today", the
windows of days and weeks reach back from that instant instead, and only Q4, which counts, does so from `now`: with the
last midnight as "today" these are the windows of an engine that goes by whole days. There must be no events after `now`.
A page is of 100 people, with their properties, of a cohort of half of all, who follow the given person; from Postgres.

    peers.py versions [--postgres-bin DIR]

prints the versions as JSON, with null for what is missing.
"""
import argparse
import csv
import fcntl
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from importlib import metadata
from itertools import islice
from pathlib import Path

FACTOR = 2654435761
PATTERN = "smith[0-9]+@(gmail|yahoo)[.]com$"
PEOPLE = ["person", "plan", "country", "age", "email", "company", "signed_up"]
EVENTS = ["event", "name", "time", "person", "browser", "url", "price"]
# The numbers of the names that the kinds ask for; Postgres stores numbers instead of names.
NUMBERS = {"$pageview": 0, "purchase": 4, "churn_survey": 19, "signup_completed": 29}
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Properties as JSON; chdb's `format` and Python's read these alike.
EVENT_JSON = '{{"$browser":"{}","$current_url":"{}"{}}}'
PRICE_JSON = ',"price":{}'
PERSON_JSON = '{{"plan":"{}","country":"{}","age":{},"email":"{}","company":"{}","signed_up":"{}"}}'
PORT = 5432
SETTINGS = f"""
port = {PORT}
listen_addresses = ''
shared_buffers = 4GB
work_mem = 256MB
maintenance_work_mem = 1GB
effective_cache_size = 12GB
max_parallel_workers_per_gather = 2
max_parallel_workers = 2
max_wal_size = 8GB
random_page_cost = 1.1
jit = off
default_toast_compression = lz4
timezone = 'UTC'
"""
PAGE = """SELECT person, properties
    FROM (SELECT person FROM cohort_people WHERE cohort_id = 1 AND person > %s ORDER BY person LIMIT 100) members
    JOIN persons USING (person) WHERE project_id = 1 ORDER BY person"""


# The kinds, once per peer. Each statement gives one column `p`. `back(days)` is the instant so many days before `today`
# as the peer writes it, `week` the one seven days before `now`.


def chdb_kinds(back, week):
    def who(event, where, having="1"):
        return (f"SELECT person_id AS p FROM events WHERE team_id = 1 AND event = '{event}' AND {where} "
                f"GROUP BY person_id HAVING {having}")

    def people(where):
        return f"SELECT id AS p FROM person WHERE team_id = 1 AND is_deleted = 0 AND {where}"

    def since(days):
        return f"timestamp >= {back(days)}"

    bought = who("purchase", since(30))
    viewed = who("$pageview", f"timestamp > {week}", "count() >= 5")
    pro = people("pmat_plan = 'pro'")
    weeks = f"multiIf({since(7)}, 1, {since(14)}, 2, {since(21)}, 4, 8)"
    return {
        "Q1": people("pmat_plan = 'pro' AND pmat_country IN ('US', 'DE')"),
        "Q2a": people("pmat_email ILIKE '%goldman%'"),
        "Q2b": people(f"match(pmat_email, '{PATTERN}')"),
        "Q3": bought,
        "Q4": viewed,
        "Q5": who("purchase", f"{since(30)} AND `mat_$browser` = 'Chrome' AND toFloat64OrNull(mat_price) > 50"),
        "Q6": f"((({bought}) UNION DISTINCT ({viewed})) INTERSECT DISTINCT ({pro})) "
              f"EXCEPT DISTINCT ({who('churn_survey', since(90))})",
        "Q7": who("signup_completed", "1", f"min(timestamp) >= {back(30)}"),
        "Q8": "SELECT person_id AS p FROM events WHERE team_id = 1 AND event IN ('signup_completed', 'purchase') "
              f"AND {since(60)} GROUP BY person_id HAVING windowFunnel({7 * 86_400_000_000})"
              "(toUInt64(toUnixTimestamp64Micro(timestamp)), event = 'signup_completed', event = 'purchase') = 2",
        "Q9": who("$pageview", since(30), f"max(timestamp) < {back(7)}"),
        "Q10": who("$pageview", f"{since(28)} AND timestamp < {back(0)}", f"bitCount(groupBitOr({weeks})) >= 3"),
    }


def duckdb_kinds(back, week):
    def who(event, where, having="true"):
        return f"SELECT person AS p FROM events WHERE name = '{event}' AND {where} GROUP BY person HAVING {having}"

    def people(where):
        return f"SELECT person AS p FROM people WHERE {where}"

    def since(days):
        return f"time >= {back(days)}"

    bought = who("purchase", since(30))
    viewed = who("$pageview", f"time > {week}", "count(*) >= 5")
    surveyed = who("churn_survey", since(90))
    weeks = f"CASE WHEN {since(7)} THEN 1 WHEN {since(14)} THEN 2 WHEN {since(21)} THEN 4 ELSE 8 END"
    return {
        "Q1": people("plan = 'pro' AND country IN ('US', 'DE')"),
        "Q2a": people("email ILIKE '%goldman%'"),
        "Q2b": people(f"regexp_matches(email, '{PATTERN}')"),
        "Q3": bought,
        "Q4": viewed,
        "Q5": who("purchase", f"{since(30)} AND browser = 'Chrome' AND price > 50"),
        "Q6": people(f"plan = 'pro' AND (person IN ({bought}) OR person IN ({viewed})) AND person NOT IN ({surveyed})"),
        "Q7": who("signup_completed", "true", f"min(time) >= {back(30)}"),
        "Q8": "SELECT DISTINCT a.person AS p FROM events a JOIN events b ON b.person = a.person "
              "AND b.time BETWEEN a.time AND a.time + INTERVAL 7 DAY WHERE a.name = 'signup_completed' "
              f"AND b.name = 'purchase' AND a.{since(60)} AND b.{since(60)}",
        "Q9": who("$pageview", since(30), f"max(time) < {back(7)}"),
        "Q10": who("$pageview", f"{since(28)} AND time < {back(0)}", f"bit_count(bit_or({weeks})) >= 3"),
    }


def postgres_kinds(back, week):
    def of(event, alias="events"):
        return f"{alias}.project_id = 1 AND {alias}.event_id = {NUMBERS[event]}"

    def who(event, where, having="true"):
        return f"SELECT person AS p FROM events WHERE {of(event)} AND {where} GROUP BY person HAVING {having}"

    def people(where):
        return f"SELECT person AS p FROM persons WHERE project_id = 1 AND {where}"

    def since(days):
        return f"ts >= {back(days)}"

    bought = who("purchase", since(30))
    viewed = who("$pageview", f"ts > {week}", "count(*) >= 5")
    surveyed = who("churn_survey", since(90))
    pro = """properties @> '{"plan":"pro"}'"""
    pro_in = """properties @> '{"plan":"pro","country":"%s"}'"""
    dear = "properties->>'$browser' = 'Chrome' AND (properties->>'price')::float8 > 50"
    weeks = f"CASE WHEN {since(7)} THEN 1 WHEN {since(14)} THEN 2 WHEN {since(21)} THEN 4 ELSE 8 END"
    return {
        "Q1": people(f"({pro_in % 'US'} OR {pro_in % 'DE'})"),
        "Q2a": people("properties->>'email' ILIKE '%goldman%'"),
        "Q2b": people(f"properties->>'email' ~ '{PATTERN}'"),
        "Q3": bought,
        "Q4": viewed,
        "Q5": who("purchase", f"{since(30)} AND {dear}"),
        "Q6": people(f"{pro} AND (person IN ({bought}) OR person IN ({viewed})) AND person NOT IN ({surveyed})"),
        "Q7": who("signup_completed", "true", f"min(ts) >= {back(30)}"),
        "Q8": "SELECT DISTINCT a.person AS p FROM events a JOIN events b ON b.person = a.person "
              "AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '7 days' "
              f"WHERE {of('signup_completed', 'a')} AND {of('purchase', 'b')} AND a.{since(60)} AND b.{since(60)}",
        "Q9": who("$pageview", since(30), f"max(ts) < {back(7)}"),
        "Q10": who("$pageview", f"{since(28)} AND ts < {back(0)}", f"bit_count(bit_or({weeks})::bit(8)) >= 3"),
    }

# To fill the peers.


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def open_chdb(store):
    from chdb import session

    chdb = session.Session(str(store / "chdb"))
    chdb.query("SET max_threads = 2, max_insert_threads = 2, date_time_input_format = 'best_effort'")
    chdb.query("SET use_query_cache = 0, use_query_condition_cache = 0")
    chdb.query("CREATE DATABASE IF NOT EXISTS ph")
    chdb.query("USE ph")
    return chdb


def load_chdb(store, people, events):
    """In the layout of PostHog: properties as text, and those that are asked for as columns of their own."""
    shutil.rmtree(store / "chdb", ignore_errors=True)
    started = time.perf_counter()
    with closing(open_chdb(store)) as chdb:
        chdb.query("""CREATE TABLE events (uuid UUID, event String, properties String CODEC(ZSTD(3)),
            timestamp DateTime64(6, 'UTC'), team_id Int64, distinct_id String, person_id UUID,
            `mat_$browser` String MATERIALIZED JSONExtractString(properties, '$browser'),
            mat_price String MATERIALIZED JSONExtractRaw(properties, 'price'))
            ENGINE = MergeTree PARTITION BY toYYYYMM(timestamp) SAMPLE BY cityHash64(distinct_id)
            ORDER BY (team_id, toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))""")
        chdb.query("""CREATE TABLE person (id UUID, team_id Int64, properties String CODEC(ZSTD(3)), is_deleted Int8,
            version UInt64, pmat_plan String MATERIALIZED JSONExtractString(properties, 'plan'),
            pmat_country String MATERIALIZED JSONExtractString(properties, 'country'),
            pmat_email String MATERIALIZED JSONExtractString(properties, 'email'))
            ENGINE = ReplacingMergeTree(version) ORDER BY (team_id, id)""")
        # The lower half of an id is the number of the person; the upper half scatters the ids.
        id = "reinterpret(bitOr(bitShiftLeft(toUInt128(cityHash64(person)), 64), toUInt128(person)), 'UUID')"
        properties = f"format('{EVENT_JSON}', browser, url, if(price = '', '', format('{PRICE_JSON}', price)))"
        columns = quoted("event UInt8, name String, time DateTime64(6, 'UTC'), person UInt32, browser String, "
                         "url String, price String")
        chdb.query(f"""INSERT INTO events SELECT generateUUIDv4(), name, {properties}, time, 1, 'p' || toString(person),
            {id} FROM file({quoted(events)}, 'CSVWithNames', {columns})""")
        properties = f"format('{PERSON_JSON}', plan, country, age, email, company, signed_up)"
        columns = quoted("person UInt32, plan String, country String, age String, email String, company String, "
                         "signed_up String")
        chdb.query(f"""INSERT INTO person SELECT {id}, 1, {properties}, 0, 1
            FROM file({quoted(people)}, 'CSVWithNames', {columns})""")
        for table in ("events", "person"):
            chdb.query(f"OPTIMIZE TABLE {table} FINAL")
        took = time.perf_counter() - started
        rows = chdb.query("SELECT count() FROM events", "TSV")
        size = chdb.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'ph'", "TSV")
        return {"load_seconds": took, "bytes": int(str(size)), "rows": int(str(rows))}


def open_duckdb(store, read_only):
    import duckdb

    config = {"threads": 2, "memory_limit": "8GB"}
    return duckdb.connect(str(store / "duckdb.db"), read_only=read_only, config=config)


def load_duckdb(store, people, events):
    """In the order of name and time, so that a statement reads little beside what it asks for."""
    for left in store.glob("duckdb.db*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    started = time.perf_counter()
    with closing(open_duckdb(store, read_only=False)) as duckdb:
        duckdb.execute(f"""CREATE TABLE events AS SELECT name, time, person, browser, url, price
            FROM read_csv({quoted(events)}, header = true, columns = {{event: 'UTINYINT', name: 'VARCHAR',
            time: 'TIMESTAMP', person: 'UINTEGER', browser: 'VARCHAR', url: 'VARCHAR', price: 'DOUBLE'}})
            ORDER BY name, time""")
        duckdb.execute(f"""CREATE TABLE people AS SELECT * FROM read_csv({quoted(people)}, header = true,
            columns = {{person: 'UINTEGER', plan: 'VARCHAR', country: 'VARCHAR', age: 'UTINYINT', email: 'VARCHAR',
            company: 'VARCHAR', signed_up: 'TIMESTAMP'}})""")
        duckdb.execute("CHECKPOINT")
        took = time.perf_counter() - started
        rows = duckdb.execute("SELECT count(*) FROM events").fetchone()[0]
    return {"load_seconds": took, "bytes": (store / "duckdb.db").stat().st_size, "rows": rows}


def connect(socket):
    import psycopg

    return psycopg.connect(host=socket, port=PORT, user="bench", dbname="postgres", autocommit=True)


def event_lines(rows):
    for event, _, time, person, browser, url, price in rows:
        properties = EVENT_JSON.format(browser, url, price and PRICE_JSON.format(price))
        yield f"1\t{event}\t{time}\t{person}\t{properties}\n"


def person_lines(rows):
    for person, *properties in rows:
        yield f"1\t{person}\t{PERSON_JSON.format(*properties)}\n"


def copy(postgres, table, path, lines):
    with open(path, newline="") as file, postgres.cursor().copy(f"COPY {table} FROM STDIN") as into:
        rows = csv.reader(file)
        next(rows)
        lines = lines(rows)
        while block := "".join(islice(lines, 10_000)):
            into.write(block)


def load_postgres(cluster, people, events):
    """With a covering index for the events, and for the properties the indexes that the kinds can use."""
    cluster.create()
    with cluster.running() as socket, closing(connect(socket)) as postgres:
        run = postgres.execute
        started = time.perf_counter()
        run("CREATE EXTENSION pg_trgm")
        run("CREATE TABLE events (project_id int, event_id int, ts timestamptz, person int, properties jsonb)")
        run("CREATE TABLE persons (project_id int, person int, properties jsonb)")
        copy(postgres, "events", events, event_lines)
        copy(postgres, "persons", people, person_lines)
        run("CREATE INDEX ON events (project_id, event_id, ts) INCLUDE (person)")
        run("ALTER TABLE persons ADD PRIMARY KEY (project_id, person)")
        run("CREATE INDEX ON persons USING gin (properties jsonb_path_ops)")
        run("CREATE INDEX ON persons USING gin ((properties->>'email') gin_trgm_ops)")
        run("VACUUM ANALYZE events, persons")
        took = time.perf_counter() - started
        rows = run("SELECT count(*) FROM events").fetchone()[0]
        sizes = "sum(pg_table_size(name)), sum(pg_indexes_size(name))"
        sizes = run(f"SELECT {sizes} FROM unnest(ARRAY['events', 'persons']::regclass[]) name").fetchone()
        table, index = map(int, sizes)
        # For the pages: half of all people, scattered.
        run("CREATE TABLE cohort_people (cohort_id int, person int, PRIMARY KEY (cohort_id, person))")
        run(f"""INSERT INTO cohort_people SELECT 1, person FROM persons
            WHERE (person::bigint * {FACTOR} & 4294967295) < 2147483648 ORDER BY person""")
        run("VACUUM ANALYZE cohort_people")
    return {"load_seconds": took, "bytes": table + index, "rows": rows, "table_bytes": table, "index_bytes": index}


# The private cluster of Postgres.


def postgres_programs(given):
    """The directory of initdb and pg_ctl, or nothing."""
    on_path = shutil.which("initdb")
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda found: int(found.parts[-3]) if found.parts[-3].isdigit() else 0, default=None)
    found = Path(given, "initdb") if given else Path(on_path) if on_path else newest
    return found.resolve().parent if found and found.exists() else None


def account_for_postgres():
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


@contextmanager
def undisturbed():
    """A signal to stop waits for the end of the block."""
    came = []
    handlers = {one: signal.signal(one, lambda number, _: came.append(number)) for one in STOPPING}
    try:
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    if came:
        sys.exit(128 + came[0])


class Cluster:
    def __init__(self, store, programs):
        self.home = store / "postgres"
        self.programs = programs
        self.account = account_for_postgres()
        self.as_account = {}
        if not programs:
            sys.exit("peers: there is no initdb of Postgres; name its directory with --postgres-bin")
        if self.account:
            self.as_account = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
            for directory in (programs, store):
                self.check_way(directory)

    def check_way(self, directory):
        for part in [*reversed(directory.parents), directory]:
            if subprocess.run(["test", "-x", part], cwd="/", **self.as_account).returncode:
                name = self.account.pw_name
                sys.exit(f"peers: Postgres runs as the account {name}, which may not pass through {part}; "
                         f"use another directory, or let others pass with chmod o+x {part}")

    def own(self, directory):
        if self.account:
            os.chown(directory, self.account.pw_uid, self.account.pw_gid)

    def run(self, program, *arguments):
        with undisturbed():
            done = subprocess.run([self.programs / program, "-D", self.home, *arguments], cwd="/", text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  start_new_session=True, **self.as_account)
        if done.returncode:
            sys.exit(f"peers: {program} failed: {done.stdout.strip()} (its log, if any: {self.home / 'log'})")

    def create(self):
        self.stop_leftover()
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        self.own(self.home)
        self.run("initdb", "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        with open(self.home / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS)

    @contextmanager
    def running(self):
        """Gives the directory of the socket; paths of sockets must be short. Stops the cluster, whatever happens."""
        self.stop_leftover()
        socket = tempfile.mkdtemp(prefix="peers-")
        try:
            self.own(socket)
            self.run("pg_ctl", "start", "-w", "-l", self.home / "log", "-o", f"-k {shlex.quote(socket)}")
            yield socket
        finally:
            if (self.home / "postmaster.pid").exists():
                self.run("pg_ctl", "stop", "-w", "-m", "fast")
            shutil.rmtree(socket, ignore_errors=True)

    def stop_leftover(self):
        """A run that was killed could not stop its cluster. Whether it still runs, its socket tells."""
        from psycopg import OperationalError

        noted = self.home / "postmaster.pid"
        if noted.exists():
            socket = noted.read_text().splitlines()[4]
            try:
                connect(socket).close()
            except OperationalError:
                return
            self.run("pg_ctl", "stop", "-w", "-m", "fast")
            shutil.rmtree(socket, ignore_errors=True)


# The commands.


def say(answer):
    print(json.dumps(answer), flush=True)


def take(store):
    """Holds the store for this process alone, until it ends."""
    store.mkdir(parents=True, exist_ok=True)
    lock = open(store / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"peers: another process works with {store}")
    return lock


def check_header(path, columns):
    with open(path, newline="") as file:
        if next(csv.reader(file), None) != columns:
            sys.exit(f"peers: {path} does not begin with the columns {','.join(columns)}")


def load(arguments):
    store, people, events = (path.resolve() for path in (arguments.store, arguments.people, arguments.events))
    check_header(people, PEOPLE)
    check_header(events, EVENTS)
    with take(store):
        cluster = Cluster(store, postgres_programs(arguments.postgres_bin))
        for peer, fill, into in (("chdb", load_chdb, store), ("duckdb", load_duckdb, store),
                                 ("postgres", load_postgres, cluster)):
            marker = store / f"{peer}.loaded"
            if not marker.exists():
                figures = {"peer": peer, **fill(into, people, events)}
                figures["load_seconds"] = round(figures["load_seconds"], 3)
                part = store / f"{peer}.part"
                part.write_text(json.dumps(figures))
                part.replace(marker)
            say(json.loads(marker.read_text()))


def peers_of(store, postgres):
    """For each peer how it writes an instant, its kinds, and how it finds the number and the checksum of people."""
    chdb, duckdb = open_chdb(store), open_duckdb(store, read_only=True)
    number = "toUInt64(bitAnd(reinterpret(p, 'UInt128'), toUInt128(18446744073709551615)))"

    def ask_chdb(sql):
        found = chdb.query(f"SELECT count(), groupBitXor({number} * {FACTOR}) FROM ({sql})", "TSV")
        return str(found).split()

    def ask_duckdb(sql):
        return duckdb.execute(f"SELECT count(*), bit_xor(p::UBIGINT * {FACTOR}) FROM ({sql})").fetchone()

    def ask_postgres(sql):
        return postgres.execute(f"SELECT count(*), bit_xor(p::bigint * {FACTOR}) FROM ({sql}) found").fetchone()

    instant = "{:%Y-%m-%d %H:%M:%S.%f}"
    return {
        "chdb": (f"toDateTime64('{instant}', 6, 'UTC')", chdb_kinds, ask_chdb),
        "duckdb": (f"TIMESTAMP '{instant}'", duckdb_kinds, ask_duckdb),
        "postgres": (f"TIMESTAMPTZ '{instant}+00'", postgres_kinds, ask_postgres),
    }


def instant_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def count(request, peers):
    instant, kinds, ask = peers[request["peer"]]
    now = instant_of(request["now"])
    today = instant_of(request.get("today", request["now"]))
    statements = kinds(lambda days: instant.format(today - timedelta(days=days)), instant.format(now - timedelta(days=7)))
    statement = statements[request["kind"]]
    started = time.perf_counter()
    found, checksum = ask(statement)
    took = time.perf_counter() - started
    return {"count": int(found), "checksum": int(checksum or 0), "ms": took * 1000}


def page(request, postgres):
    started = time.perf_counter()
    found = postgres.execute(PAGE, [request["page_after"]], prepare=True).fetchall()
    took = time.perf_counter() - started
    return {"rows": len(found), "ms": took * 1000}


def serve(arguments):
    store = arguments.store.resolve()
    for peer in ("chdb", "duckdb", "postgres"):
        if not (store / f"{peer}.loaded").exists():
            sys.exit(f"peers: {store} does not hold {peer} in full; load it first")
    programs = postgres_programs(arguments.postgres_bin)
    with take(store), Cluster(store, programs).running() as socket, closing(connect(socket)) as postgres:
        peers = peers_of(store, postgres)
        say({"ready": list(peers), "versions": versions(programs)})
        for line in sys.stdin:
            try:
                request = json.loads(line)
                say(page(request, postgres) if "page_after" in request else count(request, peers))
            except Exception as error:
                say({"error": f"{type(error).__name__}: {error}"})


def versions(programs):
    found = {"python": sys.version.split()[0]}
    for package in ("chdb", "chdb-core", "duckdb", "psycopg"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    said = programs and subprocess.check_output([programs / "postgres", "--version"], text=True)
    found["postgres"] = said and said.split()[2]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name, wanted in (("load", ("store", "people", "events")), ("serve", ("store",)), ("versions", ())):
        command = commands.add_parser(name)
        for one in wanted:
            command.add_argument(one, type=Path)
        command.add_argument("--postgres-bin", type=Path)
    arguments = parser.parse_args()
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, lambda number, _: sys.exit(128 + number))
    if arguments.command == "load":
        load(arguments)
    elif arguments.command == "serve":
        serve(arguments)
    else:
        say(versions(postgres_programs(arguments.postgres_bin)))


if __name__ == "__main__":
    main()
