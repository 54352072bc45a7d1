#!/usr/bin/env python3
"""The made-up population in three other databases, which answer the same kinds of cohort.

The peers are chdb (ClickHouse within this process), DuckDB (likewise) and Postgres (a private cluster that listens on a
socket only). They need Python 3.9 or newer with the packages chdb, duckdb and psycopg[binary], and the programs of
Postgres 14 or newer, with its extension pg_trgm: those of --postgres-bin, or else those on the PATH, or else the newest
under /usr/lib/postgresql. Root runs them as the account "postgres" or, where there is none, "nobody". Only one process
at a time may use a STORE.

peers.py load STORE PEOPLE.csv EVENTS.csv [--postgres-bin DIR]
    fills each peer that STORE does not hold in full yet, and prints one line per peer in any case:
        {"peer":"chdb","load_seconds":..,"bytes":..,"rows":..}; for postgres also "table_bytes" and "index_bytes"
    People have the columns person,plan,country,age,email,company,signed_up, and events have
    event,name,time,person,browser,url,price. A person is a number from 0 on, an event the number of its name; only some
    have a price; times are like 2026-11-25T12:34:56.789Z. No text holds quotes, tabs or backslashes.

peers.py serve STORE [--postgres-bin DIR]
    prints {"ready":[..],"versions":{..}} and answers each line of its input with a line, until the input ends:
        {"peer":"duckdb","kind":"Q1","now":"2026-11-25T12:34:56.789123Z"} -> {"count":..,"checksum":..,"ms":..}
        {"page_after":1234} -> {"rows":..,"ms":..}
        whatever cannot be answered -> {"error":".."}
    The checksum is the XOR over all people found of their number * 2654435761, unsigned; ms is the time of the whole
    statement. All windows reach back from "now", to the microsecond. Where a line also has "today", they reach back
    from that instant instead, but for Q4's, which counts: with the last midnight as "today" these are the windows of
    an engine that goes by whole days. There must be no events after "now". A page is of 100 people, with their
    properties, of a cohort of half of all, who follow the given person; it comes from postgres.

peers.py versions [--postgres-bin DIR]
    prints the versions, with null for what is missing.
"""
import argparse
import csv
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
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from importlib import metadata
from itertools import islice
from pathlib import Path

# The kinds, once per peer; each gives one column of people, `p`. {d30} is the instant 30 days before `today`, {d0} is
# `today` itself, {n7} the instant 7 days before `now`, and any other name in braces the text of that name above.
CHDB_KINDS = {
    "people": "SELECT id AS p FROM person WHERE team_id = 1 AND is_deleted = 0",
    "events": "SELECT person_id AS p FROM events WHERE team_id = 1 AND event",
    "Q1": "{people} AND pmat_plan = 'pro' AND pmat_country IN ('US', 'DE')",
    "Q2a": "{people} AND pmat_email ILIKE '%goldman%'",
    "Q2b": "{people} AND match(pmat_email, 'smith[0-9]+@(gmail|yahoo)[.]com$')",
    "Q3": "{events} = 'purchase' AND timestamp >= {d30} GROUP BY p",
    "Q4": "{events} = '$pageview' AND timestamp > {n7} GROUP BY p HAVING count() >= 5",
    "Q5": "{events} = 'purchase' AND timestamp >= {d30} AND `mat_$browser` = 'Chrome' "
          "AND toFloat64OrNull(mat_price) > 50 GROUP BY p",
    "Q6": "((({Q3}) UNION DISTINCT ({Q4})) INTERSECT DISTINCT ({people} AND pmat_plan = 'pro')) "
          "EXCEPT DISTINCT ({events} = 'churn_survey' AND timestamp >= {d90})",
    "Q7": "{events} = 'signup_completed' GROUP BY p HAVING min(timestamp) >= {d30}",
    "Q8": "{events} IN ('signup_completed', 'purchase') AND timestamp >= {d60} "
          "GROUP BY p HAVING windowFunnel(604800000000)(toUInt64(toUnixTimestamp64Micro(timestamp)), "
          "event = 'signup_completed', event = 'purchase') = 2",
    "Q9": "{events} = '$pageview' AND timestamp >= {d30} GROUP BY p HAVING max(timestamp) < {d7}",
    "Q10": "{events} = '$pageview' AND timestamp >= {d28} AND timestamp < {d0} GROUP BY p HAVING bitCount(groupBitOr("
           "multiIf(timestamp >= {d7}, 1, timestamp >= {d14}, 2, timestamp >= {d21}, 4, 8))) >= 3",
}
DUCKDB_KINDS = {
    "people": "SELECT person AS p FROM people WHERE",
    "events": "SELECT person AS p FROM events WHERE name",
    "Q1": "{people} plan = 'pro' AND country IN ('US', 'DE')",
    "Q2a": "{people} email ILIKE '%goldman%'",
    "Q2b": "{people} regexp_matches(email, 'smith[0-9]+@(gmail|yahoo)[.]com$')",
    "Q3": "{events} = 'purchase' AND time >= {d30} GROUP BY p",
    "Q4": "{events} = '$pageview' AND time > {n7} GROUP BY p HAVING count(*) >= 5",
    "Q5": "{events} = 'purchase' AND time >= {d30} AND browser = 'Chrome' AND price > 50 GROUP BY p",
    "Q6": "{people} plan = 'pro' AND (person IN ({Q3}) OR person IN ({Q4})) "
          "AND person NOT IN ({events} = 'churn_survey' AND time >= {d90})",
    "Q7": "{events} = 'signup_completed' GROUP BY p HAVING min(time) >= {d30}",
    "Q8": "SELECT DISTINCT person AS p FROM events a WHERE name = 'signup_completed' AND time >= {d60} AND EXISTS "
          "(FROM events b WHERE b.name = 'purchase' AND b.time >= {d60} AND b.person = a.person "
          "AND b.time BETWEEN a.time AND a.time + INTERVAL 7 DAY)",
    "Q9": "{events} = '$pageview' AND time >= {d30} GROUP BY p HAVING max(time) < {d7}",
    "Q10": "{events} = '$pageview' AND time >= {d28} AND time < {d0} GROUP BY p HAVING bit_count(bit_or(CASE "
           "WHEN time >= {d7} THEN 1 WHEN time >= {d14} THEN 2 WHEN time >= {d21} THEN 4 ELSE 8 END)) >= 3",
}
# Here an event is the number of its name: 0 is $pageview, 4 purchase, 19 churn_survey, 29 signup_completed.
POSTGRES_KINDS = {
    "people": "SELECT person AS p FROM persons WHERE project_id = 1 AND",
    "events": "SELECT person AS p FROM events WHERE project_id = 1 AND event_id",
    "Q1": "{people} (properties @> '{{\"plan\":\"pro\",\"country\":\"US\"}}' "
          "OR properties @> '{{\"plan\":\"pro\",\"country\":\"DE\"}}')",
    "Q2a": "{people} properties->>'email' ILIKE '%goldman%'",
    "Q2b": "{people} properties->>'email' ~ 'smith[0-9]+@(gmail|yahoo)[.]com$'",
    "Q3": "{events} = 4 AND ts >= {d30} GROUP BY p",
    "Q4": "{events} = 0 AND ts > {n7} GROUP BY p HAVING count(*) >= 5",
    "Q5": "{events} = 4 AND ts >= {d30} AND properties->>'$browser' = 'Chrome' "
          "AND (properties->>'price')::float8 > 50 GROUP BY p",
    "Q6": "{people} properties @> '{{\"plan\":\"pro\"}}' AND (person IN ({Q3}) OR person IN ({Q4})) "
          "AND person NOT IN ({events} = 19 AND ts >= {d90})",
    "Q7": "{events} = 29 GROUP BY p HAVING min(ts) >= {d30}",
    "Q8": "SELECT DISTINCT person AS p FROM events a WHERE project_id = 1 AND event_id = 29 AND ts >= {d60} AND EXISTS "
          "(SELECT FROM events b WHERE b.project_id = 1 AND b.event_id = 4 AND b.ts >= {d60} AND b.person = a.person "
          "AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '7 days')",
    "Q9": "{events} = 0 AND ts >= {d30} GROUP BY p HAVING max(ts) < {d7}",
    "Q10": "{events} = 0 AND ts >= {d28} AND ts < {d0} GROUP BY p HAVING bit_count(bit_or(CASE WHEN ts >= {d7} THEN 1 "
           "WHEN ts >= {d14} THEN 2 WHEN ts >= {d21} THEN 4 ELSE 8 END)::bit(8)) >= 3",
}
# For each peer how it writes an instant, its kinds, and how it sums up the people found.
PEERS = {
    "chdb": ("toDateTime64('{:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')", CHDB_KINDS,
             "SELECT count(), groupBitXor(toUInt64(reinterpret(p, 'UInt128')) * 2654435761) FROM ({})"),
    "duckdb": ("TIMESTAMP '{:%Y-%m-%d %H:%M:%S.%f}'", DUCKDB_KINDS,
               "SELECT count(*), bit_xor(p::UBIGINT * 2654435761) FROM ({})"),
    "postgres": ("TIMESTAMPTZ '{:%Y-%m-%d %H:%M:%S.%f}+00'", POSTGRES_KINDS,
                 "SELECT count(*), bit_xor(p::bigint * 2654435761) FROM ({}) found"),
}
PAGE = """SELECT person, properties
    FROM (SELECT person FROM cohort_people WHERE cohort_id = 1 AND person > %s ORDER BY person LIMIT 100) members
    JOIN persons USING (person) WHERE project_id = 1 ORDER BY person"""
# Properties as JSON; chdb's `format` and Python's read these alike.
EVENT_JSON = '{{"$browser":"{}"{},"$current_url":"{}"}}'
PRICE_JSON = ',"price":{}'
PERSON_JSON = '{{"plan":"{}","country":"{}","age":{},"email":"{}","company":"{}","signed_up":"{}"}}'
SETTINGS = """
port = 5432
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
        id = "reinterpret(bitShiftLeft(toUInt128(cityHash64(person)), 64) + person, 'UUID')"
        price = f"if(price = '', '', format('{PRICE_JSON}', price))"
        columns = quoted("event UInt8, name String, time DateTime64(6, 'UTC'), person UInt32, browser String, "
                         "url String, price String")
        chdb.query(f"""INSERT INTO events SELECT generateUUIDv4(), name, format('{EVENT_JSON}', browser, {price}, url),
            time, 1, 'p' || toString(person), {id} FROM file({quoted(events)}, 'CSVWithNames', {columns})""")
        columns = quoted("person UInt32, plan String, country String, age String, email String, company String, "
                         "signed_up String")
        chdb.query(f"""INSERT INTO person
            SELECT {id}, 1, format('{PERSON_JSON}', plan, country, age, email, company, signed_up), 0, 1
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

    return psycopg.connect(host=socket, port=5432, user="bench", dbname="postgres", autocommit=True)


def copy(postgres, table, path, line_of):
    with open(path, newline="") as file, postgres.cursor().copy(f"COPY {table} FROM STDIN") as into:
        rows = csv.reader(file)
        next(rows)
        lines = (line_of(*row) for row in rows)
        while block := "".join(islice(lines, 10_000)):
            into.write(block)


def event_line(event, _, at, person, browser, url, price):
    properties = EVENT_JSON.format(browser, price and PRICE_JSON.format(price), url)
    return f"1\t{event}\t{at}\t{person}\t{properties}\n"


def person_line(person, *properties):
    return f"1\t{person}\t{PERSON_JSON.format(*properties)}\n"


def load_postgres(cluster, people, events):
    """With a covering index for the events, and for the properties the indexes that the kinds can use."""
    cluster.create()
    with cluster.running() as socket, closing(connect(socket)) as postgres:
        run = postgres.execute
        started = time.perf_counter()
        run("CREATE EXTENSION pg_trgm")
        run("CREATE TABLE events (project_id int, event_id int, ts timestamptz, person int, properties jsonb)")
        run("CREATE TABLE persons (project_id int, person int, properties jsonb)")
        copy(postgres, "events", events, event_line)
        copy(postgres, "persons", people, person_line)
        run("CREATE INDEX ON events (project_id, event_id, ts) INCLUDE (person)")
        run("ALTER TABLE persons ADD PRIMARY KEY (project_id, person)")
        run("CREATE INDEX ON persons USING gin (properties jsonb_path_ops)")
        run("CREATE INDEX ON persons USING gin ((properties->>'email') gin_trgm_ops)")
        run("VACUUM ANALYZE events, persons")
        took = time.perf_counter() - started
        rows = run("SELECT count(*) FROM events").fetchone()[0]
        table, index = run("""SELECT sum(pg_table_size(one))::bigint, sum(pg_indexes_size(one))::bigint
            FROM unnest(ARRAY['events', 'persons']::regclass[]) one""").fetchone()
        # For the pages: half of all people, scattered.
        run("CREATE TABLE cohort_people (cohort_id int, person int, PRIMARY KEY (cohort_id, person))")
        run("""INSERT INTO cohort_people SELECT 1, person FROM persons
            WHERE (person::bigint * 2654435761 & 4294967295) < 2147483648 ORDER BY person""")
        run("VACUUM ANALYZE cohort_people")
    return {"load_seconds": took, "bytes": table + index, "rows": rows, "table_bytes": table, "index_bytes": index}


def postgres_programs(given):
    """The directory of initdb and pg_ctl, or nothing."""
    installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")
    newest = max(installed, key=lambda found: float(found.parts[-3]), default="")
    found = Path(given / "initdb" if given else shutil.which("initdb") or newest)
    return found.resolve().parent if found.is_file() else None


class Cluster:
    """The private cluster of Postgres in a store."""

    def __init__(self, store, programs):
        if not programs:
            sys.exit("peers: there is no initdb of Postgres; name its directory with --postgres-bin")
        self.home = store / "postgres"
        self.programs = programs
        self.account, self.as_account = None, {}
        # Postgres refuses to run as root.
        if os.geteuid() == 0:
            by_name = {account.pw_name: account for account in pwd.getpwall()}
            self.account = by_name.get("postgres") or by_name["nobody"]
            self.as_account = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
            for part in [*reversed(programs.parents), programs, *reversed(store.parents), store]:
                if subprocess.run(["test", "-x", part], cwd="/", **self.as_account).returncode:
                    sys.exit(f"peers: Postgres runs as the account {self.account.pw_name}, which may not pass through "
                             f"{part}: use another directory, or chmod o+x {part}")

    def own(self, directory):
        if self.account:
            os.chown(directory, self.account.pw_uid, self.account.pw_gid)

    def run(self, program, *arguments):
        # A signal to stop waits for the program, so that none is left half way.
        came = []
        handlers = {one: signal.signal(one, lambda number, _: came.append(number))
                    for one in (signal.SIGINT, signal.SIGTERM)}
        done = subprocess.run([self.programs / program, "-D", self.home, *arguments], cwd="/", text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              start_new_session=True, **self.as_account)
        for one, handler in handlers.items():
            signal.signal(one, handler)
        if done.returncode:
            sys.exit(f"peers: {program} failed: {done.stdout.strip()}")
        if came:
            sys.exit(128 + came[0])

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
        """Gives the directory of the socket, whose path must be short, and stops the cluster whatever happens."""
        self.stop_leftover()
        socket = tempfile.mkdtemp(prefix="peers-")
        try:
            self.own(socket)
            self.run("pg_ctl", "start", "-w", "-l", self.home / "log", "-o", f"-k {shlex.quote(socket)}")
            yield socket
        finally:
            self.stop(socket)

    def stop(self, socket):
        try:
            if (self.home / "postmaster.pid").exists():
                self.run("pg_ctl", "stop", "-w", "-m", "fast")
        finally:
            shutil.rmtree(socket, ignore_errors=True)

    def stop_leftover(self):
        """A run that was killed could not stop its cluster. Whether that still runs, its socket tells."""
        from psycopg import OperationalError

        noted = self.home / "postmaster.pid"
        for socket in noted.read_text().splitlines()[4:5] if noted.exists() else []:
            with suppress(OperationalError):
                connect(socket).close()
                self.stop(socket)


def say(answer):
    print(json.dumps(answer), flush=True)


def load(store, people, events, programs):
    store.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(store, programs)
    fillers = {"chdb": (load_chdb, store), "duckdb": (load_duckdb, store), "postgres": (load_postgres, cluster)}
    for peer, (fill, into) in fillers.items():
        marker, part = store / f"{peer}.loaded", store / f"{peer}.part"
        if not marker.exists():
            part.write_text(json.dumps({"peer": peer, **fill(into, people, events)}))
            part.replace(marker)
        print(marker.read_text(), flush=True)


def statement_of(request):
    instant, kinds, sum_up = PEERS[request["peer"]]
    now, today = (datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)
                  for text in (request["now"], request.get("today", request["now"])))
    known = {f"d{days}": instant.format(today - timedelta(days=days)) for days in (0, 7, 14, 21, 28, 30, 60, 90)}
    known["n7"] = instant.format(now - timedelta(days=7))
    for name, text in kinds.items():
        known[name] = text.format(**known)
    return sum_up.format(known[request["kind"]])


def timed(ask, *what):
    started = time.perf_counter()
    found = ask(*what)
    return found, (time.perf_counter() - started) * 1000


def answer(request, ask):
    if "page_after" in request:
        page, took = timed(ask["page"], request["page_after"])
        return {"rows": len(page), "ms": took}
    (count, checksum), took = timed(ask[request["peer"]], statement_of(request))
    return {"count": int(count), "checksum": int(checksum or 0), "ms": took}


def serve(store, programs):
    for peer in PEERS:
        if not (store / f"{peer}.loaded").exists():
            sys.exit(f"peers: {store} does not hold {peer} in full; load it first")
    cluster = Cluster(store, programs)
    # chdb comes first, for it refuses a store that another process has open.
    with closing(open_chdb(store)) as chdb, closing(open_duckdb(store, read_only=True)) as duckdb, \
            cluster.running() as socket, closing(connect(socket)) as postgres:
        ask = {
            "chdb": lambda statement: str(chdb.query(statement, "TSV")).split(),
            "duckdb": lambda statement: duckdb.execute(statement).fetchone(),
            "postgres": lambda statement: postgres.execute(statement).fetchone(),
            "page": lambda after: postgres.execute(PAGE, [after], prepare=True).fetchall(),
        }
        say({"ready": list(PEERS), "versions": versions(programs)})
        for line in sys.stdin:
            try:
                say(answer(json.loads(line), ask))
            except Exception as error:
                say({"error": f"{type(error).__name__}: {error}"})


def versions(programs):
    installed = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    found = {package: installed.get(package) for package in ("chdb", "chdb-core", "duckdb", "psycopg")}
    said = programs and subprocess.check_output([programs / "postgres", "--version"], text=True)
    return {"python": sys.version.split()[0], **found, "postgres": said and said.split()[2]}


def main():
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name, paths in (("load", ("store", "people", "events")), ("serve", ("store",)), ("versions", ())):
        command = commands.add_parser(name)
        for path in paths:
            command.add_argument(path, type=lambda text: Path(text).resolve())
        command.add_argument("--postgres-bin", type=Path)
    arguments = parser.parse_args()
    programs = postgres_programs(arguments.postgres_bin)
    if arguments.command == "load":
        load(arguments.store, arguments.people, arguments.events, programs)
    elif arguments.command == "serve":
        serve(arguments.store, programs)
    else:
        say(versions(programs))


if __name__ == "__main__":
    main()
