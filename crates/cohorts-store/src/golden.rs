//! Golden SQL: each raw statement of the store is also in `tests/golden`, one file per table family.
//!
//! A change of a statement therefore shows the whole statement in a review. Statements of diesel's query builder are not
//! listed. To write the files again, run `COHORTS_BLESS=1 cargo test -p cohorts-store golden`.

use diesel::debug_query;
use diesel::pg::Pg;

use crate::keys::AccessQuery;
use crate::members::ChunksOf;
use crate::persons::page::{self, RowsWithin};
use crate::persons::{ByOrdinals, PersonRows, ShownIds, addresses, ids, property_names};
use crate::project_deletion as deletion;
use crate::schema_rules::refusal;
use crate::{
    ProjectId, activity, changes, columns, definitions, distribution, events, health, hints,
    history, idempotency, latest_events, live, members, migrate, person_events, persons, purge,
    queue, scan, segments,
};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
/// Whether the test writes the golden files. Cargo compiles the test again when the variable changes.
const IS_BLESSING: bool = option_env!("COHORTS_BLESS").is_some();

/// A statement with the name of its constant or type.
struct Statement {
    name: &'static str,
    sql: String,
}

/// The statements of a table family, which are in one file.
struct Family {
    name: &'static str,
    statements: Vec<Statement>,
}

impl Family {
    fn new(name: &'static str, texts: &[(&'static str, &str)]) -> Self {
        let statement = |(name, sql): &(&'static str, &str)| Statement {
            name,
            sql: (*sql).to_owned(),
        };
        Self {
            name,
            statements: texts.iter().map(statement).collect(),
        }
    }

    /// Adds the text of a query, without the values of its parameters.
    fn with(mut self, name: &'static str, debug: String) -> Self {
        let (sql, _) = debug.split_once(" -- binds").unwrap();
        self.statements.push(Statement {
            name,
            sql: sql.to_owned(),
        });
        self
    }

    fn text(&self) -> String {
        let texts = self
            .statements
            .iter()
            .map(|statement| format!("-- {}\n{};\n", statement.name, in_lines(&statement.sql)));
        texts.collect::<Vec<_>>().join("\n")
    }
}

fn families() -> Vec<Family> {
    let shard_key = ProjectId(1).shard_key();
    vec![
        Family::new(
            "definitions",
            &[
                ("definitions::WHOLE_PERSONS", definitions::WHOLE_PERSONS),
                ("definitions::EVENT_VALUES", definitions::EVENT_VALUES),
                ("definitions::PERSON_VALUES", definitions::PERSON_VALUES),
            ],
        ),
        Family::new(
            "events",
            &[
                ("events::COUNT_BETWEEN", events::COUNT_BETWEEN),
                ("events::RANGES_WITH_EVENTS", events::RANGES_WITH_EVENTS),
                ("events::KNOWN", events::KNOWN),
                ("events::SEND_LIMITS", events::SEND_LIMITS),
                ("events::LIMIT_LOCK_WAIT", events::LIMIT_LOCK_WAIT),
                ("events::LIMIT_DURATION", events::LIMIT_DURATION),
                ("events::DELETE_OF_PERSONS", events::DELETE_OF_PERSONS),
                ("events::DELETE_BEFORE", events::DELETE_BEFORE),
                ("segments::SIZES", segments::SIZES),
                ("segments::READ", segments::READ),
                ("segments::NEXT_NAME", segments::NEXT_NAME),
                ("segments::CROWDED_DAYS", segments::CROWDED_DAYS),
                ("events::HAS_FROM", events::HAS_FROM),
                ("person_events::OF_PERSON", person_events::OF_PERSON),
                ("latest_events::LATEST", latest_events::LATEST),
                ("scan::EVENTS", scan::EVENTS),
                ("scan::EVENTS_BETWEEN", scan::EVENTS_BETWEEN),
                ("scan::WHOLE_EVENTS", scan::WHOLE_EVENTS),
                ("scan::WHOLE_EVENTS_OF_DAY", scan::WHOLE_EVENTS_OF_DAY),
                ("scan::AFTER_STEP", scan::AFTER_STEP),
                ("scan::NEXT_NAME", scan::NEXT_NAME),
            ],
        ),
        Family::new(
            "cohorts",
            &[
                ("activity::EXCESS_OF_COHORTS", activity::EXCESS_OF_COHORTS),
                ("activity::EXCESS_OF_PROJECTS", activity::EXCESS_OF_PROJECTS),
                ("history::TIMES", history::TIMES),
                ("purge::DELETED_BEFORE", purge::DELETED_BEFORE),
                ("queue::PUBLISH_REMOVALS", queue::PUBLISH_REMOVALS),
                ("live::PUBLISH_LIVE", live::PUBLISH_LIVE),
                ("live::JOIN", live::JOIN),
                ("live::RENEW", live::RENEW),
                ("live::STAMPS", live::STAMPS),
                ("hints::LISTEN", hints::LISTEN),
                ("hints::NOTIFY", hints::NOTIFY),
            ],
        ),
        Family::new("keys", &[]).with(
            "keys::AccessQuery",
            debug_query::<Pg, _>(&AccessQuery {
                hash: &[],
                project: None,
            })
            .to_string(),
        ),
        Family::new(
            "idempotency",
            &[("idempotency::DELETE_EXCESS", idempotency::DELETE_EXCESS)],
        ),
        Family::new(
            "changes",
            &[
                ("changes::CHUNK_VERSIONS", changes::CHUNK_VERSIONS),
                ("changes::CLEAR_CHUNKS", changes::CLEAR_CHUNKS),
                ("changes::CLEAR_SLICES", changes::CLEAR_SLICES),
                ("changes::UNCLEARED", changes::UNCLEARED),
                ("changes::UNPUBLISHED", changes::UNPUBLISHED),
                ("changes::PRUNE", changes::PRUNE),
                ("changes::PRUNE_ALL", changes::PRUNE_ALL),
                ("changes::DELETE_CHUNKS", changes::DELETE_CHUNKS),
                ("changes::DELETE_SLICES", changes::DELETE_SLICES),
                ("changes::FIRST_MOVES", changes::FIRST_MOVES),
                ("changes::NEWEST_OF_COHORTS", changes::NEWEST_OF_COHORTS),
                ("changes::OF_COHORTS", changes::OF_COHORTS),
                ("changes::SLICES_OF_CHUNK", changes::SLICES_OF_CHUNK),
                ("changes::VERSION_SLICES", changes::VERSION_SLICES),
            ],
        ),
        Family::new(
            "members",
            &[
                ("members::NEWEST_CHUNKS", members::NEWEST_CHUNKS),
                ("members::NEWER_CHUNKS", members::NEWER_CHUNKS),
            ],
        )
        .with(
            "members::ChunksOf",
            debug_query::<Pg, _>(&ChunksOf::new(shard_key, &[], 0)).to_string(),
        ),
        Family::new(
            "persons",
            &[
                ("persons::ids::BY_ID", ids::BY_ID),
                ("persons::BY_UUID", persons::BY_UUID),
                ("persons::addresses::BY_EMAIL", addresses::BY_EMAIL),
                (
                    "persons::addresses::FIRST_SPELLINGS",
                    addresses::FIRST_SPELLINGS,
                ),
                ("persons::ids::OWNERS", ids::OWNERS),
                ("persons::ids::COUNT_IDS", ids::COUNT_IDS),
                ("persons::MOVE_IDS", persons::MOVE_IDS),
                ("persons::SEARCH", persons::SEARCH),
                ("persons::page::SIZES", page::SIZES),
                (
                    "persons::property_names::PROPERTY_NAMES",
                    property_names::PROPERTY_NAMES,
                ),
                ("scan::PROPERTY", scan::PROPERTY),
                ("scan::PROPERTIES", scan::PROPERTIES),
                ("scan::CHANGED_PERSONS", scan::CHANGED_PERSONS),
                ("columns::CHANGES_BY_PART", columns::CHANGES_BY_PART),
            ],
        )
        .with(
            "persons::ByOrdinals<PersonRows>",
            debug_query::<Pg, _>(&ByOrdinals::<PersonRows>::new(shard_key, &[])).to_string(),
        )
        .with(
            "persons::page::RowsWithin",
            debug_query::<Pg, _>(&RowsWithin::new(shard_key, &[], 0)).to_string(),
        )
        .with(
            "persons::ByOrdinals<ShownIds>",
            debug_query::<Pg, _>(&ByOrdinals::<ShownIds>::new(shard_key, &[])).to_string(),
        ),
        Family::new(
            "projects",
            &[
                ("project_deletion::EVENTS.bound", deletion::EVENTS.bound),
                ("project_deletion::EVENTS.delete", deletion::EVENTS.delete),
                ("project_deletion::PERSONS.bound", deletion::PERSONS.bound),
                ("project_deletion::PERSONS.delete", deletion::PERSONS.delete),
                (
                    "project_deletion::DISTINCT_IDS.bound",
                    deletion::DISTINCT_IDS.bound,
                ),
                (
                    "project_deletion::DISTINCT_IDS.delete",
                    deletion::DISTINCT_IDS.delete,
                ),
                (
                    "project_deletion::TOMBSTONES.bound",
                    deletion::TOMBSTONES.bound,
                ),
                (
                    "project_deletion::TOMBSTONES.delete",
                    deletion::TOMBSTONES.delete,
                ),
                ("project_deletion::ERASURES.bound", deletion::ERASURES.bound),
                (
                    "project_deletion::ERASURES.delete",
                    deletion::ERASURES.delete,
                ),
                (
                    "project_deletion::PROPERTY_PARTS.bound",
                    deletion::PROPERTY_PARTS.bound,
                ),
                (
                    "project_deletion::PROPERTY_PARTS.delete",
                    deletion::PROPERTY_PARTS.delete,
                ),
                (
                    "project_deletion::MEMBER_CHUNKS.bound",
                    deletion::MEMBER_CHUNKS.bound,
                ),
                (
                    "project_deletion::MEMBER_CHUNKS.delete",
                    deletion::MEMBER_CHUNKS.delete,
                ),
                (
                    "project_deletion::MEMBER_CHANGES.bound",
                    deletion::MEMBER_CHANGES.bound,
                ),
                (
                    "project_deletion::MEMBER_CHANGES.delete",
                    deletion::MEMBER_CHANGES.delete,
                ),
                (
                    "project_deletion::COHORT_SIZES.bound",
                    deletion::COHORT_SIZES.bound,
                ),
                (
                    "project_deletion::COHORT_SIZES.delete",
                    deletion::COHORT_SIZES.delete,
                ),
                ("project_deletion::DELETE_SLICES", deletion::DELETE_SLICES),
                (
                    "project_deletion::DELETE_SEGMENTS",
                    deletion::DELETE_SEGMENTS,
                ),
            ],
        ),
        Family::new(
            "server",
            &[
                ("health::SETTING", health::SETTING),
                ("health::CLOCK", health::CLOCK),
                ("health::DATABASE_BYTES", health::DATABASE_BYTES),
                ("health::MAY_CHANGE_TABLES", health::MAY_CHANGE_TABLES),
                ("distribution::HAS_CITUS", distribution::HAS_CITUS),
                ("POSTPONE_FLUSH", crate::POSTPONE_FLUSH),
                ("distribution::LOCAL_TABLES", distribution::LOCAL_TABLES),
                (
                    "distribution::TABLES_WITH_LOCAL_ROWS",
                    distribution::TABLES_WITH_LOCAL_ROWS,
                ),
                ("distribution::WORKERS", distribution::WORKERS),
                ("distribution::ASK_WORKER", distribution::ASK_WORKER),
                ("distribution::PLACEMENTS", distribution::PLACEMENTS),
                (
                    "distribution::RECOVERY_INTERVAL",
                    distribution::RECOVERY_INTERVAL,
                ),
                ("distribution::BYTES", distribution::BYTES),
                ("distribution::NODE_CONNINFO", distribution::NODE_CONNINFO),
                ("distribution::IS_WORKER", distribution::IS_WORKER),
                ("distribution::SEQUENTIAL", distribution::SEQUENTIAL),
                ("distribution::NO_LIMIT", distribution::NO_LIMIT),
                (
                    "distribution::DISTRIBUTE_FIRST",
                    distribution::DISTRIBUTE_FIRST,
                ),
                ("distribution::DISTRIBUTE", distribution::DISTRIBUTE),
                ("distribution::TRUNCATE_LOCAL", distribution::TRUNCATE_LOCAL),
                (
                    "distribution::EXTENSION_OF_WORKER",
                    distribution::EXTENSION_OF_WORKER,
                ),
                (
                    "distribution::PREPARED_OF_WORKER",
                    distribution::PREPARED_OF_WORKER,
                ),
                (
                    "distribution::HANGING_OF_WORKER",
                    distribution::HANGING_OF_WORKER,
                ),
                ("migrate::HAS_TRIGRAMS", migrate::HAS_TRIGRAMS),
                ("migrate::CREATE_TRIGRAMS", migrate::CREATE_TRIGRAMS),
                ("migrate::TRY_LOCK", migrate::TRY_LOCK),
                ("migrate::SERVER_VERSION", migrate::SERVER_VERSION),
                ("migrate::INVALID_INDEXES", migrate::INVALID_INDEXES),
            ],
        ),
    ]
}

/// Breaks a statement before its clauses, indented by the depth of parentheses.
fn in_lines(sql: &str) -> String {
    const CLAUSES: [&str; 10] = [
        " from ",
        " where ",
        " join ",
        " left join ",
        " cross join ",
        " order by ",
        " union ",
        " limit ",
        " offset ",
        " using ",
    ];
    let mut lines = String::new();
    let (mut depth, mut start) = (0, 0);
    for (position, letter) in sql.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        // `left join` and `cross join` break once, before their first word.
        let is_second_word = ["left", "cross"]
            .iter()
            .any(|word| sql[..position].ends_with(word));
        let rest = &sql[position..];
        if CLAUSES.iter().any(|clause| rest.starts_with(clause)) && !is_second_word {
            lines.push_str(&sql[start..position].trim().replace("( ", "("));
            lines.push('\n');
            lines.push_str(&"    ".repeat(depth));
            start = position;
        }
    }
    lines + &sql[start..].trim().replace("( ", "(")
}

#[test]
fn golden_files_contain_the_statements() {
    for family in families() {
        let path = format!("{DIRECTORY}/{}.sql", family.name);
        if IS_BLESSING {
            std::fs::write(&path, family.text()).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == family.text(),
            "{path} differs from the statements; run `COHORTS_BLESS=1 cargo test -p cohorts-store golden` and review the \
             difference. The statements are now:\n{}",
            family.text()
        );
    }
}

#[test]
fn golden_files_without_a_family_are_deleted() {
    let names: Vec<String> = families()
        .iter()
        .map(|family| format!("{}.sql", family.name))
        .collect();
    for file in std::fs::read_dir(DIRECTORY).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} has no statements; delete it");
    }
}

#[test]
fn a_distributed_postgres_accepts_the_statements() {
    for Statement { name, sql } in families().iter().flat_map(|family| &family.statements) {
        assert_eq!(refusal(sql), None, "{name}");
    }
}
