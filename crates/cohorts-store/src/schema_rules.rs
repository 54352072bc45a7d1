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

const CONTROL: [&str; 10] = [
    "__diesel_schema_migrations",
    "actions",
    "activities",
    "calculations",
    "cohorts",
    "key_projects",
    "keys",
    "projects",
    "teammates",
    "uploads",
];
pub(crate) const PERSON: [&str; 11] = [
    "distinct_ids",
    "events",
    "log_heads",
    "member_chunks",
    "ordinal_counters",
    "person_checkpoints",
    "persons",
    "property_checkpoints",
    "segment_manifests",
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
