//! Deletions of projects with a row in every table, read from the catalogue.

use diesel::sql_types::Text;

use super::*;
use crate::activity::{self, NewActivity};
use crate::definition::Definition;
use crate::keys::NewKey;
use crate::testing::TestDatabase;
use crate::webhooks::activity::NewWebhookActivity;
use crate::webhooks::deliveries::DeliveryOutcome;
use crate::webhooks::{self, LogPosition, NewWebhook, WebhookFields};
use crate::{JsonText, StoreError, cohorts as cohort_rows, ordinals, queue};

#[derive(QueryableByName)]
struct CatalogColumn {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    type_: String,
}

/// The columns of all tables with a shard key.
const COLUMNS: &str = "\
    select table_name::text as \"table\", column_name::text as name, data_type::text as type_ \
    from information_schema.columns c where table_schema = 'public' and exists ( \
        select from information_schema.columns k where k.table_schema = 'public' \
            and k.table_name = c.table_name and k.column_name = 'shard_key') \
    order by table_name, ordinal_position";

#[derive(QueryableByName)]
struct TableCount {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

fn count(conn: &mut Conn, rows: &str) -> i64 {
    let row: TableCount = diesel::sql_query(format!("select count(*) as number from {rows}"))
        .get_result(conn)
        .unwrap();
    row.number
}

/// The names of the tables with a shard key, after a row was added to each for the project.
fn fill_person_tables(conn: &mut Conn, project: ProjectId) -> Vec<String> {
    let columns: Vec<CatalogColumn> = diesel::sql_query(COLUMNS).load(conn).unwrap();
    let mut tables: Vec<String> = columns.iter().map(|column| column.table.clone()).collect();
    tables.dedup();
    for table in &tables {
        let columns = columns.iter().filter(|column| column.table == *table);
        let (names, values): (Vec<&str>, Vec<String>) = columns
            .map(|column| {
                let value = match (column.name.as_str(), column.type_.as_str()) {
                    ("shard_key", _) => project.shard_key().0.to_string(),
                    (_, "bigint" | "integer" | "smallint") => "1".to_owned(),
                    (_, "boolean") => "false".to_owned(),
                    (_, "text") => "'x'".to_owned(),
                    (_, "uuid") => format!("'{}'", uuid::Uuid::nil()),
                    (_, "json" | "jsonb") => "'{}'".to_owned(),
                    (_, "ARRAY") => "'{}'".to_owned(),
                    (_, "bytea") => r"'\x00'".to_owned(),
                    (_, "date" | "timestamp with time zone") => "now()".to_owned(),
                    (name, type_) => panic!("{table}.{name} has the type {type_}"),
                };
                (column.name.as_str(), value)
            })
            .unzip();
        let (names, values) = (names.join("\", \""), values.join(", "));
        let insert = format!("insert into {table} (\"{names}\") values ({values})");
        diesel::sql_query(insert).execute(conn).unwrap();
    }
    tables
}

/// A project with rows in all tables, and the names of its person tables.
fn filled(conn: &mut Conn, token: &str) -> (ProjectId, Vec<String>) {
    let project = crate::projects::create(conn, "P", "UTC", token)
        .unwrap()
        .id();
    let owner = key_rows::teammate(conn, "a@x.io", "").unwrap();
    for nth in 0..COHORTS + 5 {
        let definition = Definition::default();
        let cohort = cohort_rows::create(conn, project, &owner, &definition).unwrap();
        let entry = NewActivity {
            cohort: cohort.id(),
            activity: "created",
            name: None,
            changes: Some(JsonText("[]".to_owned())),
        };
        activity::record(conn, project, &owner, &entry).unwrap();
        if nth == 0 {
            queue::request_calculation(conn, cohort.id()).unwrap();
        }
    }
    let insert = "insert into actions (project_id, description, steps, deleted, created_at) \
        values ($1, '', '[]', false, now())";
    diesel::sql_query(insert)
        .bind::<BigInt, _>(project.0)
        .execute(conn)
        .unwrap();
    add_webhook(conn, project, &owner);
    (project, fill_person_tables(conn, project))
}

/// A webhook with a delivery and an entry in its activity log.
fn add_webhook(conn: &mut Conn, project: ProjectId, owner: &key_rows::Teammate) {
    let hash = format!("of project {}", project.0);
    let key = NewKey {
        hash: hash.as_bytes(),
        label: "",
        scopes: &[],
        projects: None,
        expires_at: None,
    };
    let fields = WebhookFields {
        url: String::new(),
        cohort_ids: None,
        description: String::new(),
        enabled: true,
    };
    let new = NewWebhook {
        creator: owner,
        key: key_rows::create(conn, owner, &key).unwrap().id,
        fields: &fields,
        secret: &[],
        position: &LogPosition {
            cursor: String::new(),
            position: 0,
        },
    };
    let webhook = webhooks::create(conn, project, &new).unwrap().id;
    let outcome = DeliveryOutcome::of_test("msg_x");
    assert!(
        webhooks::deliveries::record(conn, webhook, &outcome)
            .unwrap()
            .is_some()
    );
    let entry = NewWebhookActivity {
        webhook,
        activity: "created",
        description: "",
        changes: None,
    };
    webhooks::activity::record(conn, project, None, &entry).unwrap();
}

fn key(conn: &mut Conn, hash: u8, projects: &[ProjectId]) -> [u8; 32] {
    let owner = key_rows::teammate(conn, "a@x.io", "").unwrap();
    let new = NewKey {
        hash: &[hash; 32],
        label: "",
        scopes: &["*".to_owned()],
        projects: Some(projects).filter(|ids| !ids.is_empty()),
        expires_at: None,
    };
    key_rows::create(conn, &owner, &new).unwrap();
    [hash; 32]
}

fn rows_of(conn: &mut Conn, project: ProjectId, tables: &[String]) -> Vec<i64> {
    let shard_key = project.shard_key().0;
    let person = tables
        .iter()
        .map(|table| format!("{table} where shard_key = {shard_key}"));
    let control = [
        "cohorts",
        "activities",
        "actions",
        "key_projects",
        "webhooks",
        "webhook_activities",
    ]
    .map(|table| format!("{table} where project_id = {}", project.0));
    person
        .chain(control)
        .map(|rows| count(conn, &rows))
        .collect()
}

#[test]
fn rows_of_all_tables_are_deleted_and_no_row_of_another_project() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, tables) = filled(conn, "a");
    let (other, _) = filled(conn, "b");
    for hash in [1, 2] {
        key(conn, hash, &[project, other]);
    }
    let before = rows_of(conn, other, &tables);
    assert!(
        before.iter().all(|count| *count > 0),
        "{tables:?}: {before:?}"
    );
    begin(conn, project).unwrap();
    let mut deletion = ProjectDeletion::new(project);
    let mut events = 0;
    while let Some(step) = deletion.step(conn).unwrap() {
        events += if step.name == "event" { step.count } else { 0 };
    }
    assert_eq!(events, 1);
    let after = rows_of(conn, project, &tables);
    assert!(
        after.iter().all(|count| *count == 0),
        "{tables:?}: {after:?}"
    );
    assert!(find(conn, project).unwrap().is_none());
    assert_eq!(rows_of(conn, other, &tables), before);
}

#[test]
fn a_deletion_continues_after_an_interruption_at_any_step() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, tables) = filled(conn, "a");
    begin(conn, project).unwrap();
    assert!(matches!(begin(conn, project), Err(StoreError::ProjectGone)));
    let mut steps = 0;
    // Each step belongs to another run of the command.
    while ProjectDeletion::new(project).step(conn).unwrap().is_some() {
        steps += 1;
        if find(conn, project).unwrap().is_some() {
            let unfinished: Vec<i64> = unfinished(conn)
                .unwrap()
                .iter()
                .map(|project| project.id)
                .collect();
            assert_eq!(unfinished, [project.0]);
        }
    }
    assert!(steps > 8, "{steps}");
    let after = rows_of(conn, project, &tables);
    assert!(after.iter().all(|count| *count == 0), "{after:?}");
}

#[test]
fn a_deleted_project_is_unreachable_and_no_writer_adds_rows() {
    let database = TestDatabase::create();
    let store = database.open();
    let conn = &mut *store.connection().unwrap();
    let (project, tables) = filled(conn, "a");
    let (other, _) = filled(conn, "b");
    let (of_one, of_both, of_all) = (
        key(conn, 1, &[project]),
        key(conn, 2, &[project, other]),
        key(conn, 3, &[]),
    );
    let claimed = queue::claim(conn, project, chrono::TimeDelta::seconds(15), 1).unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(store.project_of_token("a").unwrap(), Some(project));
    begin(conn, project).unwrap();

    assert!(key_rows::access(conn, &of_one, None).unwrap().is_none());
    let access = key_rows::access(conn, &of_both, Some(project.0))
        .unwrap()
        .unwrap();
    assert!(access.project.is_none() && access.restricted_to == Some(vec![other.0]));
    let access = key_rows::access(conn, &of_all, None).unwrap().unwrap();
    assert_eq!(access.project.map(|project| project.id), Some(other.0));
    assert!(crate::projects::find(conn, project).unwrap().is_none());
    assert!(crate::projects::find_by_token(conn, "a").unwrap().is_none());
    assert_eq!(crate::projects::all(conn).unwrap(), [other]);

    let shard_key = project.shard_key();
    while ProjectDeletion::new(project).step(conn).unwrap().is_some() {
        // A writer may have the token in its cache, and a worker may have a claim.
        let write = transaction(conn, |conn| events::begin_write(conn, shard_key));
        assert!(matches!(write, Err(StoreError::ProjectGone)));
        let taken = ordinals::Ordinals::default().take(conn, shard_key, 1);
        assert!(matches!(taken, Err(StoreError::ProjectGone)));
        let locked = transaction(conn, |conn| crate::projects::lock(conn, project));
        assert!(matches!(locked, Err(StoreError::ProjectGone)));
        assert_eq!(queue::lock_claimed(conn, &claimed[0]).unwrap(), None);
    }
    for write in [0, 1] {
        let result = transaction(conn, |conn| match write {
            0 => events::begin_write(conn, shard_key).map(drop),
            _ => crate::projects::lock(conn, project),
        });
        assert!(matches!(result, Err(StoreError::ProjectGone)));
    }
    let taken = ordinals::Ordinals::default().take(conn, shard_key, 1);
    assert!(matches!(taken, Err(StoreError::ProjectGone)));
    let after = rows_of(conn, project, &tables);
    assert!(after.iter().all(|count| *count == 0), "{after:?}");
}
