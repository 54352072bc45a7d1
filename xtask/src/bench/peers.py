#!/usr/bin/env python3
"""Three other databases that hold the synthetic population and answer the kinds of cohort of the bench.

The peers are chdb (ClickHouse in this process), DuckDB (in this process) and Postgres (a private cluster that listens
only on a socket). They need Python 3.9 or newer with the packages chdb, duckdb and psycopg[binary], and the programs of
Postgres 14 or newer with its extension pg_trgm. The programs are those of --postgres-bin, else those on the PATH, else
the newest under /usr/lib/postgresql. If the script runs as root, Postgres runs as the account "postgres" or, if there
is none, "nobody". Only one process at a time may use a STORE.

peers.py load STORE PERSONS.csv EVENTS.csv [--postgres-bin DIR]
    loads each peer that is not completely loaded in STORE, and prints one line for every peer:
        {"peer":"chdb","load_seconds":..,"bytes":..,"rows":..}; for postgres also "table_bytes" and "index_bytes"
    The columns of persons are person,plan,country,age,email,company,signed_up, and of events
    event,name,time,person,browser,url,price. A person is a number from 0, an event is the number of its name. Only
    purchases have a price. Times have the form 2026-11-25T12:34:56.789Z. Texts contain no quotes, tabs or backslashes.

peers.py serve STORE [--postgres-bin DIR]
    prints {"ready":[..],"versions":{..}} and then one response for each request on its input, until the input ends:
        {"peer":"duckdb","kind":"Q1","now":"2026-11-25T12:34:56.789123Z"} -> {"count":..,"checksum":..,"ms":..}
        {"page_after":1234} -> {"rows":..,"ms":..}
        a request that fails -> {"error":".."}
    The checksum is the XOR over all matching persons of their number * 2654435761, unsigned. "ms" is the time of the
    whole statement. All windows end at "now", with a resolution of one microsecond. If a request has "today", all
    windows except that of Q4 end at that instant: with the last midnight as "today", these are the windows of an engine
    that counts in whole days. There must be no events after "now". A page has 100 members with their properties, of a
    cohort with half of all persons, after the given person. Postgres answers it.

peers.py versions [--postgres-bin DIR]
    prints the versions, with null for a missing package.
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

# The kinds for each peer. Each statement returns one column of persons, `p`. {d30} is the instant 30 days before `today`,
# {d0} is `today`, {n7} is the instant 7 days before `now`, and any other name in braces is the text of that name.
CHDB_KINDS = {
    "persons": "SELECT id AS p FROM person WHERE team_id = 1 AND is_deleted = 0",
    "events": "SELECT person_id AS p FROM events WHERE team_id = 1 AND event",
    "Q1": "{persons} AND pmat_plan = 'pro' AND pmat_country IN ('US', 'DE')",
    "Q2a": "{persons} AND pmat_email ILIKE '%goldman%'",
    "Q2b": "{persons} AND match(pmat_email, 'smith[0-9]+@(gmail|yahoo)[.]com$')",
    "Q3": "{events} = 'purchase' AND timestamp >= {d30} GROUP BY p",
    "Q4": "{events} = '$pageview' AND timestamp > {n7} GROUP BY p HAVING count() >= 5",
    "Q5": "{events} = 'purchase' AND timestamp >= {d30} AND `mat_$browser` = 'Chrome' "
          "AND toFloat64OrNull(mat_price) > 50 GROUP BY p",
    "Q6": "((({Q3}) UNION DISTINCT ({Q4})) INTERSECT DISTINCT ({persons} AND pmat_plan = 'pro')) "
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
    "persons": "SELECT person AS p FROM persons WHERE",
    "events": "SELECT person AS p FROM events WHERE name",
    "Q1": "{persons} plan = 'pro' AND country IN ('US', 'DE')",
    "Q2a": "{persons} email ILIKE '%goldman%'",
    "Q2b": "{persons} regexp_matches(email, 'smith[0-9]+@(gmail|yahoo)[.]com$')",
    "Q3": "{events} = 'purchase' AND time >= {d30} GROUP BY p",
    "Q4": "{events} = '$pageview' AND time > {n7} GROUP BY p HAVING count(*) >= 5",
    "Q5": "{events} = 'purchase' AND time >= {d30} AND browser = 'Chrome' AND price > 50 GROUP BY p",
    "Q6": "{persons} plan = 'pro' AND (person IN ({Q3}) OR person IN ({Q4})) "
          "AND person NOT IN ({events} = 'churn_survey' AND time >= {d90})",
    "Q7": "{events} = 'signup_completed' GROUP BY p HAVING min(time) >= {d30}",
    "Q8": "SELECT DISTINCT person AS p FROM events a WHERE name = 'signup_completed' AND time >= {d60} AND EXISTS "
          "(FROM events b WHERE b.name = 'purchase' AND b.time >= {d60} AND b.person = a.person "
          "AND b.time BETWEEN a.time AND a.time + INTERVAL 7 DAY)",
    "Q9": "{events} = '$pageview' AND time >= {d30} GROUP BY p HAVING max(time) < {d7}",
    "Q10": "{events} = '$pageview' AND time >= {d28} AND time < {d0} GROUP BY p HAVING bit_count(bit_or(CASE "
           "WHEN time >= {d7} THEN 1 WHEN time >= {d14} THEN 2 WHEN time >= {d21} THEN 4 ELSE 8 END)) >= 3",
}
# In Postgres, an event is the number of its name: 0 is $pageview, 4 purchase, 19 churn_survey, 29 signup_completed.
POSTGRES_KINDS = {
    "persons": "SELECT person AS p FROM persons WHERE project_id = 1 AND",
    "events": "SELECT person AS p FROM events WHERE project_id = 1 AND event_id",
    "Q1": "{persons} (properties @> '{{\"plan\":\"pro\",\"country\":\"US\"}}' "
          "OR properties @> '{{\"plan\":\"pro\",\"country\":\"DE\"}}')",
    "Q2a": "{persons} properties->>'email' ILIKE '%goldman%'",
    "Q2b": "{persons} properties->>'email' ~ 'smith[0-9]+@(gmail|yahoo)[.]com$'",
    "Q3": "{events} = 4 AND ts >= {d30} GROUP BY p",
    "Q4": "{events} = 0 AND ts > {n7} GROUP BY p HAVING count(*) >= 5",
    "Q5": "{events} = 4 AND ts >= {d30} AND properties->>'$browser' = 'Chrome' "
          "AND (properties->>'price')::float8 > 50 GROUP BY p",
    "Q6": "{persons} properties @> '{{\"plan\":\"pro\"}}' AND (person IN ({Q3}) OR person IN ({Q4})) "
          "AND person NOT IN ({events} = 19 AND ts >= {d90})",
    "Q7": "{events} = 29 GROUP BY p HAVING min(ts) >= {d30}",
    "Q8": "SELECT DISTINCT person AS p FROM events a WHERE project_id = 1 AND event_id = 29 AND ts >= {d60} AND EXISTS "
          "(SELECT FROM events b WHERE b.project_id = 1 AND b.event_id = 4 AND b.ts >= {d60} AND b.person = a.person "
          "AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '7 days')",
    "Q9": "{events} = 0 AND ts >= {d30} GROUP BY p HAVING max(ts) < {d7}",
    "Q10": "{events} = 0 AND ts >= {d28} AND ts < {d0} GROUP BY p HAVING bit_count(bit_or(CASE WHEN ts >= {d7} THEN 1 "
           "WHEN ts >= {d14} THEN 2 WHEN ts >= {d21} THEN 4 ELSE 8 END)::bit(8)) >= 3",
}
# For each peer: the format of an instant, its kinds, and the statement that returns the count and the checksum.
PEERS = {
    "chdb": ("toDateTime64('{:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')", CHDB_KINDS,
             "SELECT count(), groupBitXor(toUInt64(reinterpret(p, 'UInt128')) * 2654435761) FROM ({})"),
    "duckdb": ("TIMESTAMP '{:%Y-%m-%d %H:%M:%S.%f}'", DUCKDB_KINDS,
               "SELECT count(*), bit_xor(p::UBIGINT * 2654435761) FROM ({})"),
    "postgres": ("TIMESTAMPTZ '{:%Y-%m-%d %H:%M:%S.%f}+00'", POSTGRES_KINDS,
                 "SELECT count(*), bit_xor(p::bigint * 2654435761) FROM ({}) matches"),
}
PAGE = """SELECT person, properties
    FROM (SELECT person FROM cohort_members WHERE cohort_id = 1 AND person > %s ORDER BY person LIMIT 100) members
    JOIN persons USING (person) WHERE project_id = 1 ORDER BY person"""
# Properties as JSON. The `format` functions of chdb and Python give the same text.
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


def load_chdb(store, persons, events):
    """Uses the layout of PostHog: properties as text, and materialized columns for the properties in filters."""
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
        # The lower half of an id is the number of the person. The upper half is a hash, so the ids are scattered.
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
            FROM file({quoted(persons)}, 'CSVWithNames', {columns})""")
        for table in ("events", "person"):
            chdb.query(f"OPTIMIZE TABLE {table} FINAL")
        seconds = time.perf_counter() - started
        rows = chdb.query("SELECT count() FROM events", "TSV")
        size = chdb.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'ph'", "TSV")
        return {"load_seconds": seconds, "bytes": int(str(size)), "rows": int(str(rows))}


def open_duckdb(store, read_only):
    import duckdb

    config = {"threads": 2, "memory_limit": "8GB"}
    return duckdb.connect(str(store / "duckdb.db"), read_only=read_only, config=config)


def load_duckdb(store, persons, events):
    """Sorts the events by name and time, so that a statement reads few rows that it does not need."""
    for path in store.glob("duckdb.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    started = time.perf_counter()
    with closing(open_duckdb(store, read_only=False)) as duckdb:
        duckdb.execute(f"""CREATE TABLE events AS SELECT name, time, person, browser, url, price
            FROM read_csv({quoted(events)}, header = true, columns = {{event: 'UTINYINT', name: 'VARCHAR',
            time: 'TIMESTAMP', person: 'UINTEGER', browser: 'VARCHAR', url: 'VARCHAR', price: 'DOUBLE'}})
            ORDER BY name, time""")
        duckdb.execute(f"""CREATE TABLE persons AS SELECT * FROM read_csv({quoted(persons)}, header = true,
            columns = {{person: 'UINTEGER', plan: 'VARCHAR', country: 'VARCHAR', age: 'UTINYINT', email: 'VARCHAR',
            company: 'VARCHAR', signed_up: 'TIMESTAMP'}})""")
        duckdb.execute("CHECKPOINT")
        seconds = time.perf_counter() - started
        rows = duckdb.execute("SELECT count(*) FROM events").fetchone()[0]
    return {"load_seconds": seconds, "bytes": (store / "duckdb.db").stat().st_size, "rows": rows}


def connect(socket):
    import psycopg

    return psycopg.connect(host=socket, port=5432, user="bench", dbname="postgres", autocommit=True)


def copy(postgres, table, path, line_of):
    with open(path, newline="") as file, postgres.cursor().copy(f"COPY {table} FROM STDIN") as copy_in:
        rows = csv.reader(file)
        next(rows)
        lines = (line_of(*row) for row in rows)
        while chunk := "".join(islice(lines, 10_000)):
            copy_in.write(chunk)


def event_line(event, _, time, person, browser, url, price):
    properties = EVENT_JSON.format(browser, price and PRICE_JSON.format(price), url)
    return f"1\t{event}\t{time}\t{person}\t{properties}\n"


def person_line(person, *properties):
    return f"1\t{person}\t{PERSON_JSON.format(*properties)}\n"


def load_postgres(cluster, persons, events):
    """Creates a covering index on the events, and the indexes on properties that the kinds can use."""
    cluster.create()
    with cluster.running() as socket, closing(connect(socket)) as postgres:
        run = postgres.execute
        started = time.perf_counter()
        run("CREATE EXTENSION pg_trgm")
        run("CREATE TABLE events (project_id int, event_id int, ts timestamptz, person int, properties jsonb)")
        run("CREATE TABLE persons (project_id int, person int, properties jsonb)")
        copy(postgres, "events", events, event_line)
        copy(postgres, "persons", persons, person_line)
        run("CREATE INDEX ON events (project_id, event_id, ts) INCLUDE (person)")
        run("ALTER TABLE persons ADD PRIMARY KEY (project_id, person)")
        run("CREATE INDEX ON persons USING gin (properties jsonb_path_ops)")
        run("CREATE INDEX ON persons USING gin ((properties->>'email') gin_trgm_ops)")
        run("VACUUM ANALYZE events, persons")
        seconds = time.perf_counter() - started
        rows = run("SELECT count(*) FROM events").fetchone()[0]
        table, index = run("""SELECT sum(pg_table_size(name))::bigint, sum(pg_indexes_size(name))::bigint
            FROM unnest(ARRAY['events', 'persons']::regclass[]) name""").fetchone()
        # The cohort for pages: half of all persons, scattered.
        run("CREATE TABLE cohort_members (cohort_id int, person int, PRIMARY KEY (cohort_id, person))")
        run("""INSERT INTO cohort_members SELECT 1, person FROM persons
            WHERE (person::bigint * 2654435761 & 4294967295) < 2147483648 ORDER BY person""")
        run("VACUUM ANALYZE cohort_members")
    return {"load_seconds": seconds, "bytes": table + index, "rows": rows, "table_bytes": table, "index_bytes": index}


def postgres_programs(directory):
    """Returns the directory of initdb and pg_ctl, or None."""
    installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")
    newest = max(installed, key=lambda path: float(path.parts[-3]), default="")
    initdb = Path(directory / "initdb" if directory else shutil.which("initdb") or newest)
    return initdb.resolve().parent if initdb.is_file() else None


class Cluster:
    """The private Postgres cluster of a store."""

    def __init__(self, store, programs):
        if not programs:
            sys.exit("peers: initdb of Postgres is missing; give its directory with --postgres-bin")
        self.home = store / "postgres"
        self.programs = programs
        self.account, self.as_account = None, {}
        # Postgres does not run as root.
        if os.geteuid() == 0:
            by_name = {account.pw_name: account for account in pwd.getpwall()}
            self.account = by_name.get("postgres") or by_name["nobody"]
            self.as_account = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
            for part in [*reversed(programs.parents), programs, *reversed(store.parents), store]:
                if subprocess.run(["test", "-x", part], cwd="/", **self.as_account).returncode:
                    sys.exit(f"peers: Postgres runs as the account {self.account.pw_name}, which has no access to "
                             f"{part}: use another directory, or run chmod o+x {part}")

    def chown(self, directory):
        if self.account:
            os.chown(directory, self.account.pw_uid, self.account.pw_gid)

    def run(self, program, *arguments):
        # Signals are deferred until the program ends, so it is never interrupted half way.
        pending = []
        handlers = {number: signal.signal(number, lambda number, _: pending.append(number))
                    for number in (signal.SIGINT, signal.SIGTERM)}
        process = subprocess.run([self.programs / program, "-D", self.home, *arguments], cwd="/", text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 start_new_session=True, **self.as_account)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if process.returncode:
            sys.exit(f"peers: {program} failed: {process.stdout.strip()}")
        if pending:
            sys.exit(128 + pending[0])

    def create(self):
        self.stop_leftover()
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        self.chown(self.home)
        self.run("initdb", "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        with open(self.home / "postgresql.conf", "a") as settings:
            settings.write(SETTINGS)

    @contextmanager
    def running(self):
        """Starts the cluster, yields the directory of its socket, and always stops the cluster.

        The directory is in the temporary directory because the path of a socket must be short.
        """
        self.stop_leftover()
        socket = tempfile.mkdtemp(prefix="peers-")
        try:
            self.chown(socket)
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
        """Stops the cluster of an earlier run that was killed, if it still accepts connections."""
        from psycopg import OperationalError

        pid_file = self.home / "postmaster.pid"
        for socket in pid_file.read_text().splitlines()[4:5] if pid_file.exists() else []:
            with suppress(OperationalError):
                connect(socket).close()
                self.stop(socket)


def respond(response):
    print(json.dumps(response), flush=True)


def load(store, persons, events, programs):
    store.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(store, programs)
    loaders = {"chdb": (load_chdb, store), "duckdb": (load_duckdb, store), "postgres": (load_postgres, cluster)}
    for peer, (load_peer, target) in loaders.items():
        marker, part = store / f"{peer}.loaded", store / f"{peer}.part"
        if not marker.exists():
            part.write_text(json.dumps({"peer": peer, **load_peer(target, persons, events)}))
            part.replace(marker)
        print(marker.read_text(), flush=True)


def statement_of(request):
    instant, kinds, summary = PEERS[request["peer"]]
    now, today = (datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)
                  for text in (request["now"], request.get("today", request["now"])))
    texts = {f"d{days}": instant.format(today - timedelta(days=days)) for days in (0, 7, 14, 21, 28, 30, 60, 90)}
    texts["n7"] = instant.format(now - timedelta(days=7))
    for name, text in kinds.items():
        texts[name] = text.format(**texts)
    return summary.format(texts[request["kind"]])


def timed(query, *arguments):
    started = time.perf_counter()
    result = query(*arguments)
    return result, (time.perf_counter() - started) * 1000


def response_to(request, queries):
    if "page_after" in request:
        page, milliseconds = timed(queries["page"], request["page_after"])
        return {"rows": len(page), "ms": milliseconds}
    (count, checksum), milliseconds = timed(queries[request["peer"]], statement_of(request))
    return {"count": int(count), "checksum": int(checksum or 0), "ms": milliseconds}


def serve(store, programs):
    for peer in PEERS:
        if not (store / f"{peer}.loaded").exists():
            sys.exit(f"peers: {peer} is not completely loaded in {store}; run load first")
    cluster = Cluster(store, programs)
    # chdb is opened first, because it fails if another process uses the store.
    with closing(open_chdb(store)) as chdb, closing(open_duckdb(store, read_only=True)) as duckdb, \
            cluster.running() as socket, closing(connect(socket)) as postgres:
        queries = {
            "chdb": lambda statement: str(chdb.query(statement, "TSV")).split(),
            "duckdb": lambda statement: duckdb.execute(statement).fetchone(),
            "postgres": lambda statement: postgres.execute(statement).fetchone(),
            "page": lambda after: postgres.execute(PAGE, [after], prepare=True).fetchall(),
        }
        respond({"ready": list(PEERS), "versions": versions(programs)})
        for line in sys.stdin:
            try:
                respond(response_to(json.loads(line), queries))
            except Exception as error:
                respond({"error": f"{type(error).__name__}: {error}"})


def versions(programs):
    installed = {package.metadata["Name"]: package.version for package in metadata.distributions()}
    packages = {name: installed.get(name) for name in ("chdb", "chdb-core", "duckdb", "psycopg")}
    postgres = programs and subprocess.check_output([programs / "postgres", "--version"], text=True)
    return {"python": sys.version.split()[0], **packages, "postgres": postgres and postgres.split()[2]}


def main():
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    for name, paths in (("load", ("store", "persons", "events")), ("serve", ("store",)), ("versions", ())):
        command = commands.add_parser(name)
        for path in paths:
            command.add_argument(path, type=lambda text: Path(text).resolve())
        command.add_argument("--postgres-bin", type=Path)
    arguments = parser.parse_args()
    programs = postgres_programs(arguments.postgres_bin)
    if arguments.command == "load":
        load(arguments.store, arguments.persons, arguments.events, programs)
    elif arguments.command == "serve":
        serve(arguments.store, programs)
    else:
        respond(versions(programs))


if __name__ == "__main__":
    main()
