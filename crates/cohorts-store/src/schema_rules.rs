//! Tests of the rules that let the same program run on one Postgres and on a distributed one.
//!
//! The rules: every key of a person table begins with `shard_key`, no foreign key connects person tables with control
//! tables, and no statement uses what a distributed table refuses.

use std::path::{Path, PathBuf};

use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};

use crate::migrate::INVALID_INDEXES;
use crate::testing::TestDatabase;
use crate::{Conn, Store};

const CONTROL: [&str; 16] = [
    "__diesel_schema_migrations",
    "actions",
    "activities",
    "calculations",
    "cohorts",
    "console_codes",
    "idempotency_keys",
    "key_projects",
    "keys",
    "live_projects",
    "projects",
    "teammates",
    "uploads",
    "webhook_activities",
    "webhook_deliveries",
    "webhooks",
];
pub(crate) const PERSON: [&str; 21] = [
    "change_heads",
    "cohort_sizes",
    "definition_checks",
    "definition_heads",
    "definitions",
    "distinct_ids",
    "erasures",
    "events",
    "log_heads",
    "member_change_slices",
    "member_changes",
    "member_chunks",
    "ordinal_counters",
    "person_checkpoints",
    "persons",
    "property_checkpoints",
    "ranking_buckets",
    "rankings",
    "segment_heads",
    "segments",
    "tombstones",
];

#[derive(QueryableByName)]
struct CatalogName {
    #[diesel(sql_type = Text)]
    name: String,
}

fn names(conn: &mut Conn, statement: &str) -> Vec<String> {
    let rows: Vec<CatalogName> = diesel::sql_query(statement).load(conn).unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

#[derive(Debug, QueryableByName)]
struct UniqueIndex {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Bool)]
    is_primary: bool,
    #[diesel(sql_type = Nullable<Text>)]
    first: Option<String>,
}

/// Unique indexes and primary keys, each with its first column.
const UNIQUE_INDEXES: &str = "\
    select c.relname::text as \"table\", i.indisprimary as is_primary, a.attname::text as first \
    from pg_index i join pg_class c on c.oid = i.indrelid \
    left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] \
    where i.indisunique and c.relnamespace = 'public'::regnamespace";
const FIRST_COLUMNS: &str = "\
    select c.relname::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid \
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace \
        and a.attnum = 1 and a.attname = 'shard_key' and a.attnotnull and a.atttypid = 'int8'::regtype order by 1";
const TABLES: &str = "\
    select tablename::text as name from pg_tables where schemaname = 'public' order by 1";
const TRIGGERS: &str = "select tgname::text as name from pg_trigger where not tgisinternal";
const FOREIGN_KEYS: &str = "\
    select unnest(array[r.relname, f.relname])::text as name from pg_constraint c \
    join pg_class r on r.oid = c.conrelid join pg_class f on f.oid = c.confrelid where c.contype = 'f'";
/// Tables with a column that takes its values from a sequence.
const SEQUENCES: &str = "\
    select c.relname::text as name from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S' \
    join pg_class c on c.oid = d.refobjid where d.classid = 'pg_class'::regclass";
/// `bytea` columns that Postgres would try to compress.
const COMPRESSED: &str = "\
    select c.relname || '.' || a.attname as name from pg_attribute a join pg_class c on c.oid = a.attrelid \
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.atttypid = 'bytea'::regtype \
        and a.attstorage <> 'e'";

#[test]
fn tables_follow_the_schema_rules() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn: &mut Conn = &mut store.connection().unwrap();

    let mut tables = [&CONTROL[..], &PERSON[..]].concat();
    tables.sort_unstable();
    assert_eq!(
        names(conn, TABLES),
        tables,
        "each table belongs to one group"
    );
    assert_eq!(
        names(conn, FIRST_COLUMNS),
        PERSON,
        "`shard_key` comes first"
    );

    let indexes: Vec<UniqueIndex> = diesel::sql_query(UNIQUE_INDEXES).load(conn).unwrap();
    let of_person_tables: Vec<&UniqueIndex> = indexes
        .iter()
        .filter(|index| PERSON.contains(&index.table.as_str()))
        .collect();
    for index in &of_person_tables {
        assert_eq!(index.first.as_deref(), Some("shard_key"), "{index:?}");
    }
    let keys = of_person_tables
        .iter()
        .filter(|index| index.is_primary)
        .count();
    assert_eq!(keys, PERSON.len(), "every person table has a primary key");

    assert_eq!(names(conn, TRIGGERS), Vec::<String>::new());
    for table in names(conn, FOREIGN_KEYS) {
        assert!(
            CONTROL.contains(&table.as_str()),
            "{table} has a foreign key"
        );
    }
    for table in names(conn, SEQUENCES) {
        assert!(CONTROL.contains(&table.as_str()), "{table} has a sequence");
    }
    assert_eq!(names(conn, COMPRESSED), ["keys.hash"]);
}

#[test]
fn an_incomplete_index_is_dropped() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn: &mut Conn = &mut store.connection().unwrap();
    let invalidate =
        "update pg_index set indisvalid = false where indexrelid = 'persons_by_seq'::regclass";
    assert_eq!(diesel::sql_query(invalidate).execute(conn).unwrap(), 1);
    assert_eq!(names(conn, INVALID_INDEXES), ["persons_by_seq"]);
    Store::open(&database.url()).unwrap();
    let remaining = "select relname::text as name from pg_class where relname = 'persons_by_seq'";
    assert_eq!(names(conn, remaining), Vec::<String>::new());
}

#[test]
fn a_database_of_a_development_build_is_refused() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn: &mut Conn = &mut store.connection().unwrap();
    let applied = "insert into __diesel_schema_migrations (version) values ('0001')";
    diesel::sql_query(applied).execute(conn).unwrap();
    let refusal = Store::open(&database.url()).err().unwrap().to_string();
    assert!(
        refusal.contains("before version 0.1.0") && refusal.contains("`cohorts import`"),
        "{refusal}"
    );
}

/// The table that a statement creates, changes or indexes.
fn table_of(statement: &str) -> Option<&str> {
    let rest = statement
        .strip_prefix("create table ")
        .or_else(|| statement.strip_prefix("alter table "))
        .or_else(|| Some(statement.split_once(" on ")?.1))?;
    rest.split([' ', '(']).next()
}

/// A distributed table accepts one statement per request. Only a file that creates a table may also set its storage and
/// create its indexes.
#[test]
fn a_migration_is_one_statement_or_creates_its_tables() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files = 0;
    for migration in std::fs::read_dir(directory).unwrap() {
        let path = migration.unwrap().path().join("up.sql");
        let text = std::fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect();
        let code = code.join("\n");
        let statements: Vec<&str> = code
            .split(';')
            .map(str::trim)
            .filter(|statement| !statement.is_empty())
            .collect();
        let created: Vec<_> = statements
            .iter()
            .filter(|statement| statement.starts_with("create table "))
            .map(|statement| table_of(statement))
            .collect();
        let is_of_new_table = |statement: &&str| created.contains(&table_of(statement));
        assert!(
            statements.len() == 1 || statements.iter().all(is_of_new_table),
            "{} changes other tables than it creates",
            path.display()
        );
        files += 1;
    }
    assert!(files > 0);
}

/// A migration of a control table with two changes in one statement, which is released. It is never distributed.
const TWO_CHANGES: &str = "20261128000101_upload_layout";
/// Migrations that a distributed table refuses. They are older than the command that distributes tables, so they always ran
/// before it.
const BEFORE_DISTRIBUTION: &str = "2026112800020";
/// The changes that a distributed table accepts.
const ACCEPTED: [&str; 10] = [
    "add column ",
    "drop column ",
    "add constraint ",
    "drop constraint ",
    "validate constraint ",
    "set (",
    "reset (",
    "set not null",
    "drop not null",
    "set default",
];

/// Why a distributed table refuses a statement of a migration.
fn refused_change(statement: &str, is_new_table: bool) -> Option<&'static str> {
    let table = table_of(statement)?;
    let (_, change) = statement.strip_prefix("alter table ")?.split_once(' ')?;
    let mut depth = 0;
    let commas = change.chars().filter(|letter| {
        depth += i32::from(*letter == '(') - i32::from(*letter == ')');
        *letter == ',' && depth == 0
    });
    if commas.count() > 0 {
        return Some("two changes in one statement");
    }
    let is_accepted = ACCEPTED.iter().any(|accepted| change.contains(accepted));
    (PERSON.contains(&table) && !is_new_table && !is_accepted).then_some("a refused change")
}

#[test]
fn migrations_have_no_change_that_a_distributed_table_refuses() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    for migration in std::fs::read_dir(directory).unwrap() {
        let path = migration.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(path.join("up.sql")).unwrap();
        let code: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect();
        let code = code.join("\n");
        for statement in code.split(';').map(str::trim) {
            let creation = table_of(statement).map(|table| format!("create table {table} ("));
            let is_new_table = creation.is_some_and(|creation| code.contains(&creation));
            let refused = refused_change(statement, is_new_table);
            let is_exempt = name == TWO_CHANGES || name.starts_with(BEFORE_DISTRIBUTION);
            assert!(refused.is_none() || is_exempt, "{name}: {refused:?}");
            assert!(
                name != TWO_CHANGES || !PERSON.contains(&table_of(statement).unwrap_or_default())
            );
        }
    }
    for (statement, is_refused) in [
        (
            "alter table events add column a int, add column b int",
            true,
        ),
        (
            "alter table uploads add column a int, add column b int",
            true,
        ),
        ("alter table events add column a numeric(3, 1)", false),
        (
            "alter table events alter column a set storage external",
            true,
        ),
        (
            "alter table uploads alter column a set storage external",
            false,
        ),
    ] {
        assert_eq!(
            refused_change(statement, false).is_some(),
            is_refused,
            "{statement}"
        );
    }
}

/// The tables that a statement reads or writes.
fn tables_in(sql: &str) -> Vec<String> {
    let words: Vec<String> = sql
        .to_lowercase()
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let is_before_table = |word: &str| ["from", "join", "into", "update", "using"].contains(&word);
    let pairs = words.windows(2).filter(|pair| is_before_table(&pair[0]));
    pairs.map(|pair| pair[1].clone()).collect()
}

/// Why a distributed Postgres refuses a statement, or sends it to every worker.
pub(crate) fn refusal(sql: &str) -> Option<String> {
    let tables = tables_in(sql);
    let of = |group: &[&str]| tables.iter().any(|table| group.contains(&table.as_str()));
    let (reads_persons, reads_control) = (of(&PERSON), of(&CONTROL));
    let changes_rows = sql.starts_with("update ") || sql.contains("do update ");
    if let Some(phrase) = BANNED.iter().find(|phrase| sql.contains(**phrase)) {
        Some(format!("`{phrase}`"))
    } else if changes_rows && sql.contains("now()") {
        Some("an update with the time of the database".to_owned())
    } else if reads_persons && reads_control {
        Some("a join of person and control tables".to_owned())
    } else if reads_persons && !sql.contains("shard_key = ") {
        Some("no shard key".to_owned())
    } else if reads_persons && sql.contains("skip locked") {
        Some("`skip locked` on a person table".to_owned())
    } else {
        None
    }
}

#[test]
fn refused_statements_are_recognised() {
    for (sql, reason) in [
        ("select 1 from persons where shard_key = $1", None),
        (
            "select 1 from unnest($1) as keys(x) join events e on true where e.shard_key = $2",
            None,
        ),
        (
            "select 1 from persons where uuid = $1",
            Some("no shard key"),
        ),
        (
            "select 1 from persons p left join cohorts c on true where p.shard_key = $1",
            Some("a join of person and control tables"),
        ),
        (
            "set local plan_cache_mode = auto",
            Some("`plan_cache_mode`"),
        ),
        (
            "update persons set created_at = now() where shard_key = $1",
            Some("an update with the time of the database"),
        ),
        (
            "select 1 from events where shard_key = $1 for update skip locked",
            Some("`skip locked` on a person table"),
        ),
    ] {
        assert_eq!(refusal(sql).as_deref(), reason, "{sql}");
    }
}

/// SQL that a distributed Postgres refuses, or that is correct on one node only.
pub(crate) const BANNED: [&str; 9] = [
    "lock table",
    " ctid",
    ".ctid",
    "grouping sets",
    "with recursive",
    "merge into",
    "materialized view",
    "gen_random_uuid",
    "plan_cache_mode",
];

/// The source files of this crate, except this one.
fn source_files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                source_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| !path.ends_with("schema_rules.rs"))
        .collect()
}

#[test]
fn the_source_contains_no_banned_sql() {
    for path in source_files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
        for phrase in BANNED {
            assert!(
                !text.contains(phrase),
                "{} contains `{phrase}`",
                path.display()
            );
        }
    }
}
