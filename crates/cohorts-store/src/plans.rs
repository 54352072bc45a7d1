//! Tests of plans: a statement uses its index in every project, also in one that is new among large ones.
//!
//! Shard keys have no statistics, so the planner expects the same number of rows for each. DECISIONS.md has the reasons.

use diesel::connection::SimpleConnection;
use diesel::debug_query;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::persons::{ByOrdinals, PersonRows, ShownIds, ids};
use crate::testing::TestDatabase;
use crate::{Conn, ProjectId, Store, changes, events, latest_events, persons, scan};

/// Rows of an analysed project, and of another one that was written later.
const ROWS: &str = "\
    insert into persons select k, i, uuid_of(i), '{}', false, '2026-01-01', 1 + i / 100, 1 + i / 100 \
        from generate_series(0, n) i; \
    insert into distinct_ids select k, 'd' || i, i, 1 + i / 100 from generate_series(0, n) i; \
    insert into events select k, uuid_of(i), i, '2026-01-01', 1 + i / 100, i, 'e' || i % 9, 'd' || i, '2026-01-01', '{}' \
        from generate_series(0, n) i;";

fn add_rows(conn: &mut Conn, project: ProjectId, last: u32) {
    let rows = ROWS
        .replace("uuid_of(i)", "md5(i::text)::uuid")
        .replace(" k,", &format!(" {},", project.shard_key().0))
        .replace(", n)", &format!(", {last})"));
    conn.batch_execute(&rows).unwrap();
}

#[derive(QueryableByName)]
struct ExplainedLine {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// The plan of a statement with these parameters.
fn plan(conn: &mut Conn, statement: &str, parameters: &[&str]) -> String {
    let mut sql = format!("explain {statement}");
    for (nth, value) in parameters.iter().enumerate().rev() {
        sql = sql.replace(&format!("${}", nth + 1), value);
    }
    let rows: Vec<ExplainedLine> = diesel::sql_query(sql).load(conn).unwrap();
    let lines: Vec<String> = rows.into_iter().map(|row| row.line).collect();
    lines.join("\n")
}

fn sql(debug: String) -> String {
    debug.split_once(" -- binds").unwrap().0.to_owned()
}

/// A project that was written after the tables were analysed.
fn store_with_new_project(database: &TestDatabase) -> (Store, ProjectId) {
    let store = database.open();
    let new = ProjectId(9);
    let conn = &mut *store.connection().unwrap();
    for project in 1..=3 {
        add_rows(conn, ProjectId(project), 5_000);
    }
    conn.batch_execute("vacuum analyze persons; ")
        .and_then(|()| conn.batch_execute("vacuum analyze distinct_ids"))
        .and_then(|()| conn.batch_execute("vacuum analyze events"))
        .unwrap();
    add_rows(conn, new, 5_000);
    (store, new)
}

#[test]
fn statements_use_their_indexes_in_a_project_without_statistics() {
    let database = TestDatabase::create();
    let (store, new) = store_with_new_project(&database);
    let conn = &mut *store.connection().unwrap();
    let shard_key = new.shard_key();
    let key = shard_key.0.to_string();
    let uuids = "array[md5('7')::uuid]";
    let numbers = "array[7::bigint]";
    let ids = "array['d7'::text]";
    let person_rows =
        sql(debug_query::<Pg, _>(&ByOrdinals::<PersonRows>::new(shard_key, &[])).to_string());
    let shown_ids =
        sql(debug_query::<Pg, _>(&ByOrdinals::<ShownIds>::new(shard_key, &[])).to_string());
    let cases: [(&str, &[&str], &[&str]); 15] = [
        (events::KNOWN, &[&key, uuids, numbers], &["events_pkey"]),
        (
            events::RANGES_WITH_EVENTS,
            &[&key, uuids, uuids],
            &["events_pkey"],
        ),
        (
            events::COUNT_BETWEEN,
            &[&key, "49", "60", "20"],
            &["events_by_seq"],
        ),
        (
            events::DELETE_OF_PERSONS,
            &[&key, "array[date '2026-01-01', date '2026-01-02']", numbers],
            &["events_by_day_and_person", "events_pkey"],
        ),
        (
            latest_events::LATEST,
            &[
                &key,
                "array[date '2026-01-02', date '2026-01-01']",
                numbers,
                "timestamptz '2025-01-01'",
                "timestamptz '2027-01-01'",
                "md5('7')::uuid",
                "7",
                "'e7'::text",
                "101",
            ],
            &[
                "events_by_day_and_person",
                "AND (day = d.day) AND (ordinal = o.ordinal)",
            ],
        ),
        (persons::BY_UUID, &[&key, uuids], &["persons_by_uuid"]),
        (
            ids::BY_ID,
            &[&key, ids],
            &["distinct_ids_pkey", "persons_pkey"],
        ),
        (
            ids::OWNERS,
            &[&key, ids],
            &["distinct_ids_pkey", "persons_pkey"],
        ),
        (
            ids::COUNT_IDS,
            &[&key, numbers, "9"],
            &["distinct_ids_by_ordinal"],
        ),
        (
            persons::MOVE_IDS,
            &[&key, numbers, numbers, "9"],
            &["distinct_ids_by_ordinal"],
        ),
        (&person_rows, &[numbers, &key], &["persons_pkey"]),
        (&shown_ids, &[numbers, &key], &["distinct_ids_by_ordinal"]),
        (
            scan::CHANGED_PERSONS,
            &[&key, "49", ids, "9"],
            &["persons_by_seq"],
        ),
        (
            scan::EVENTS_BETWEEN,
            &[&key, "49", "60", "array['e1'::text]", ids],
            &["events_by_seq"],
        ),
        (scan::NEXT_NAME, &[&key, "'e1'"], &["events_by_name"]),
    ];
    for (statement, parameters, indexes) in cases {
        let plan = plan(conn, statement, parameters);
        for index in indexes {
            assert!(plan.contains(index), "{statement}\n{plan}");
        }
    }
}

/// Changes of 100 cohorts.
const CHANGES: &str = "\
    insert into member_changes select k, i, i % 100, i / 100, i / 100 + 1, 1, 'data', '2026-01-01', 1, 0, 1, 9 \
        from generate_series(0, n) i; \
    insert into member_change_slices select k, i % 100, i / 100 + 1, 0, '', '', '' from generate_series(0, n) i; \
    insert into tombstones select k, i, i, null, i + 1 from generate_series(0, n) i;";

#[test]
fn statements_on_changes_use_their_indexes_in_a_project_without_statistics() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let add = |conn: &mut Conn, project: i64| {
        let rows = CHANGES
            .replace(" k,", &format!(" {},", ProjectId(project).shard_key().0))
            .replace(", n)", ", 5000)");
        conn.batch_execute(&rows).unwrap();
    };
    (1..=3).for_each(|project| add(conn, project));
    conn.batch_execute("vacuum analyze member_changes")
        .and_then(|()| conn.batch_execute("vacuum analyze member_change_slices"))
        .and_then(|()| conn.batch_execute("vacuum analyze tombstones"))
        .unwrap();
    add(conn, 9);
    let key = ProjectId(9).shard_key().0.to_string();
    let (numbers, slices) = ("array[7::bigint]", "member_change_slices_pkey");
    let by_cohort = "member_changes_by_cohort";
    let many: Vec<String> = (1..=80).map(|number: u8| number.to_string()).collect();
    let many = format!("array[{}]::bigint[]", many.join(","));
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            changes::FIRST_MOVES,
            &[&key, numbers, numbers, numbers, numbers],
            &["tombstones_pkey", "tombstones_by_move"],
        ),
        (
            changes::UNPUBLISHED,
            &[&key, numbers, numbers],
            &[by_cohort],
        ),
        (changes::UNCLEARED, &[&key, &many, &many], &[slices]),
        (
            changes::DELETE_SLICES,
            &[&key, numbers, numbers, "0", "9"],
            &[slices],
        ),
        (
            changes::NEWEST_OF_COHORTS,
            &[&key, numbers, numbers],
            &[by_cohort],
        ),
        (
            changes::OF_COHORTS,
            &[&key, numbers, "0", "99999", "9"],
            &[by_cohort],
        ),
        (
            changes::VERSION_SLICES,
            &[&key, numbers, numbers, "0", "9"],
            &[slices],
        ),
    ];
    for (statement, parameters, indexes) in cases {
        let plan = plan(conn, statement, parameters);
        for index in indexes {
            assert!(plan.contains(index), "{statement}\n{plan}");
        }
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
}

#[test]
fn the_analysis_of_a_table_collects_no_statistics_of_shard_keys() {
    #[derive(QueryableByName)]
    struct AnalysedColumn {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let database = TestDatabase::create();
    let (store, _) = store_with_new_project(&database);
    let conn = &mut *store.connection().unwrap();
    let analysed = "select tablename || '.' || attname as name from pg_stats where schemaname = 'public' \
        and tablename = any('{persons,distinct_ids,events}') and attname in ('shard_key', 'seq') order by 1";
    let names: Vec<AnalysedColumn> = diesel::sql_query(analysed).load(conn).unwrap();
    let names: Vec<String> = names.into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["distinct_ids.seq", "events.seq", "persons.seq"]);
}
