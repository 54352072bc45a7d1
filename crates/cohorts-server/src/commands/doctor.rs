//! `cohorts doctor`: checks the database, its settings, and the consistency of stored data.
//!
//! The service may run meanwhile. A check counts as a reader does, in one snapshot, and a repair checks again under the
//! locks of the writers.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use chrono::{TimeDelta, Utc};

use cohorts_store::changes::{self, LogFinding};
use cohorts_store::distribution::{self, Worker};
use cohorts_store::live::{self, LiveCounts};
use cohorts_store::outages::Outages;
use cohorts_store::{
    Conn, Error, ProjectId, erasures, health, project_deletion, projects, queue, segments, webhooks,
};

use super::output::{counted, print};
use crate::Data;
use crate::index::segments::mismatched_events;
use crate::webhooks::{SecretKeySource, Secrets};

/// With a larger difference between clocks, leases of other replicas seem to have ended.
const MAX_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(2);
/// A cohort that has waited longer for its calculation is stuck.
const MAX_WAIT: TimeDelta = TimeDelta::minutes(5);
/// How often segments are compared with their rows until a difference counts. While a person is deleted, the segments
/// contain the person's events for a moment.
const LOOKS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    status: FindingStatus,
    subject: &'static str,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FindingStatus {
    Ok,
    Repaired,
    Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            FindingStatus::Ok => "ok",
            FindingStatus::Repaired => "repaired",
            FindingStatus::Wrong => "WRONG",
        };
        write!(f, "{status:<9} {:<12} {}", self.subject, self.text)
    }
}

impl Finding {
    fn new(is_ok: bool, subject: &'static str, text: String) -> Self {
        let status = if is_ok {
            FindingStatus::Ok
        } else {
            FindingStatus::Wrong
        };
        Self {
            status,
            subject,
            text,
        }
    }

    /// A damage, which was repaired if `repair` was requested.
    fn damage(repair: bool, subject: &'static str, text: String) -> Self {
        let status = if repair {
            FindingStatus::Repaired
        } else {
            FindingStatus::Wrong
        };
        Self {
            status,
            subject,
            text,
        }
    }
}

/// Runs all checks and prints a line for each. `repair` corrects member counts, begins wrong change logs again, and rebuilds
/// damaged segments.
///
/// # Errors
///
/// Fails if a check finds a problem that was not repaired, or the database is not available.
pub fn run(data: &Data, secret_key: &SecretKeySource, repair: bool) -> anyhow::Result<()> {
    let mut findings = examine(data, repair)?;
    let conn = &mut *data.store.connection()?;
    findings.extend(check_secrets(conn, &Secrets::new(secret_key.clone()))?);
    findings
        .iter()
        .try_for_each(|finding| print(finding.to_string()))?;
    let is_wrong = |finding: &&Finding| finding.status == FindingStatus::Wrong;
    let problems = findings.iter().filter(is_wrong).count();
    ensure!(
        problems == 0,
        "found {}",
        counted(problems as u64, "problem")
    );
    Ok(())
}

fn examine(data: &Data, repair: bool) -> Result<Vec<Finding>, Error> {
    let conn = &mut *data.store.connection()?;
    let mut findings = vec![check_version(conn)?, check_permissions(conn, data)?];
    findings.extend(check_settings(conn)?);
    findings.push(check_clock(conn)?);
    findings.push(check_queue(conn)?);
    findings.push(report_live(conn)?);
    findings.extend(check_distribution(conn, &data.store.outages)?);
    let (served, others): (Vec<_>, Vec<_>) = (projects::all(conn)?.into_iter())
        .partition(|project| !data.store.outages.affect(*project));
    findings.extend(check_counts(conn, &served, repair)?);
    findings.extend(check_changes(conn, &served, &data.store.outages, repair)?);
    findings.extend(check_segments(conn, &served, repair, || {
        thread::sleep(PAUSE)
    })?);
    findings.extend(report_unchecked(others.len()));
    findings.extend(check_deletions(conn)?);
    findings.push(check_erasures(conn)?);
    Ok(findings)
}

/// Always ok: cohorts are behind until a service runs, and while they wait for a full calculation.
fn report_live(conn: &mut Conn) -> Result<Finding, Error> {
    let LiveCounts { live, behind } = live::counts(conn)?;
    let text = format!("{live} dynamic cohorts are live, {behind} are behind");
    Ok(Finding::new(true, "live", text))
}

/// Always ok: opening the data has refused an old server and migrated the tables.
fn check_version(conn: &mut Conn) -> Result<Finding, Error> {
    let version = health::setting(conn, "server_version")?;
    let text = format!("PostgreSQL {version}, tables up to date");
    Ok(Finding::new(true, "database", text))
}

fn check_permissions(conn: &mut Conn, data: &Data) -> Result<Finding, Error> {
    let can_migrate = health::may_change_tables(conn)?;
    let text = match (can_migrate, data.store.has_trigrams) {
        (false, _) => "the role cannot change the tables, so the next version cannot migrate them",
        (true, false) => {
            "the role can change the tables; without pg_trgm, searches find no names with typing errors"
        }
        (true, true) => "the role can change the tables; pg_trgm is installed",
    };
    Ok(Finding::new(can_migrate, "permissions", text.to_owned()))
}

/// Checks that acknowledged data survives a crash, and that there are enough connections.
fn check_settings(conn: &mut Conn) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        let value = health::setting(conn, name)?;
        let is_ok = value != "off" && value != "local";
        let consequence = if is_ok {
            ""
        } else {
            ": a crash may lose acknowledged data"
        };
        let text = format!("{name} is {value}{consequence}");
        findings.push(Finding::new(is_ok, "settings", text));
    }
    let value = health::setting(conn, "max_connections")?;
    let is_ok = value
        .parse::<u32>()
        .is_ok_and(|connections| connections > cohorts_store::MAX_CONNECTIONS);
    let text = format!(
        "max_connections is {value}; each replica uses up to {}",
        cohorts_store::MAX_CONNECTIONS
    );
    findings.push(Finding::new(is_ok, "settings", text));
    findings.push(check_language(conn)?);
    Ok(findings)
}

/// Checks the language of errors, which each connection has requested to be English.
fn check_language(conn: &mut Conn) -> Result<Finding, Error> {
    let value = health::setting(conn, "lc_messages")?;
    let is_ok = matches!(value.as_str(), "C" | "POSIX");
    let remedy = if is_ok {
        ""
    } else {
        ", and the role cannot change it, so time limits are reported as internal errors: let a superuser run \
         `alter role … set lc_messages = 'C'`"
    };
    let text = format!("lc_messages is {value}{remedy}");
    Ok(Finding::new(is_ok, "settings", text))
}

fn check_clock(conn: &mut Conn) -> Result<Finding, Error> {
    let now = Utc::now();
    let difference = (health::clock(conn)? - now).abs();
    let text = format!(
        "{:.3} s from the clock of the database",
        difference.as_seconds_f64()
    );
    Ok(Finding::new(
        difference < MAX_CLOCK_DIFFERENCE,
        "clock",
        text,
    ))
}

fn check_queue(conn: &mut Conn) -> Result<Finding, Error> {
    let now = Utc::now();
    let queue::Backlog {
        count,
        waiting_since,
    } = queue::backlog(conn, now)?;
    let longest = waiting_since.map_or(TimeDelta::zero(), |since| now - since);
    let text = match count {
        0 => "no cohorts are waiting".to_owned(),
        _ => format!(
            "{} waiting, the first for {} s",
            counted(count.unsigned_abs(), "cohort"),
            longest.num_seconds()
        ),
    };
    Ok(Finding::new(longest < MAX_WAIT, "calculation", text))
}

/// Checks the workers of Citus and what is on them. A plain Postgres has no such findings.
fn check_distribution(conn: &mut Conn, outages: &Outages) -> Result<Vec<Finding>, Error> {
    if !distribution::is_possible(conn)? {
        return Ok(Vec::new());
    }
    let local = distribution::local_tables(conn)?;
    let mut findings = vec![check_local_tables(&local)];
    let workers = outages.look(conn)?;
    // A second look would take as long again.
    outages.record(&workers);
    findings.extend(workers.iter().map(check_worker));
    Ok(findings)
}

fn check_local_tables(local: &[&str]) -> Finding {
    let text = if local.is_empty() {
        "all person tables are distributed".to_owned()
    } else {
        format!(
            "on the coordinator only: {}; run `cohorts distribute`",
            local.join(", ")
        )
    };
    Finding::new(local.is_empty(), "tables", text)
}

/// The response of the worker is its number of hanging transactions.
fn check_worker(worker: &Worker) -> Finding {
    let Worker {
        address,
        is_available,
        response,
    } = worker;
    let (is_ok, text) = match (is_available, response.as_str()) {
        (false, cause) => (false, format!("{address} does not respond: {cause}")),
        (true, "0") => (true, format!("{address} responds")),
        (true, count) => (
            false,
            format!(
                "{address} has {count} transactions that were prepared more than a minute ago and lock rows; \
                 `select recover_prepared_transactions()` on the coordinator ends them"
            ),
        ),
    };
    Finding::new(is_ok, "workers", text)
}

/// The projects that cannot be checked, because their rows cannot be read.
fn report_unchecked(count: usize) -> Option<Finding> {
    let text = format!(
        "{} not checked, because the worker does not respond",
        counted(count as u64, "project")
    );
    (count > 0).then(|| Finding::new(false, "counts", text))
}

fn check_counts(
    conn: &mut Conn,
    projects: &[ProjectId],
    repair: bool,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for project in projects {
        for cohort in health::miscounted(conn, *project, repair)? {
            let text = format!(
                "cohort {} of project {} has count {} and {}",
                cohort.id,
                project.0,
                cohort.count,
                counted(cohort.members.unsigned_abs(), "member")
            );
            findings.push(Finding::damage(repair, "counts", text));
        }
    }
    if findings.is_empty() {
        let text = "all counts equal the number of members".to_owned();
        findings.push(Finding::new(true, "counts", text));
    }
    Ok(findings)
}

/// Checks members against the change log. A repair begins the log of a project again.
fn check_changes(
    conn: &mut Conn,
    projects: &[ProjectId],
    outages: &Outages,
    repair: bool,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for project in projects {
        let differing = changes::check(conn, *project)?;
        if repair && !differing.is_empty() {
            changes::restart(conn, *project)?;
        }
        findings.extend(differing.into_iter().map(|LogFinding { cohort, problem }| {
            let project = project.0;
            let text = format!(
                "cohort {cohort} of project {project}: {problem}; with --repair, the log begins again and readers of \
                 changes get 410"
            );
            Finding::damage(repair, "changes", text)
        }));
    }
    if findings.is_empty() {
        let bytes = changes::total_bytes(&changes::heads(conn, projects)?);
        let limit = match health::change_limit(conn, outages)? {
            Some(limit) => format!("its limit is {} MiB", limit >> 20),
            None => "its limit is a tenth of the data".to_owned(),
        };
        let text = format!(
            "all members equal the change log, which has {} MiB; {limit} unless --change-limit sets another",
            bytes.div_ceil(1 << 20)
        );
        findings.push(Finding::new(true, "changes", text));
    }
    Ok(findings)
}

fn check_segments(
    conn: &mut Conn,
    projects: &[ProjectId],
    repair: bool,
    pause: impl Fn(),
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for project in projects.iter().copied() {
        let mut events = lasting_mismatches(conn, project, &pause)?;
        if repair && !events.is_empty() {
            events = drop_mismatched(conn, project)?;
        }
        findings.extend(events.into_iter().map(|event| {
            let text = format!(
                "the segments of event {event:?} of project {} differ from its rows",
                project.0
            );
            Finding::damage(repair, "segments", text)
        }));
    }
    if findings.is_empty() {
        let text = "all stored segments equal their rows".to_owned();
        findings.push(Finding::new(true, "segments", text));
    }
    Ok(findings)
}

/// The events with segments that differ from their rows at each of several looks.
fn lasting_mismatches(
    conn: &mut Conn,
    project: ProjectId,
    pause: impl Fn(),
) -> Result<Vec<String>, Error> {
    let shard_key = project.shard_key();
    // The segments contain the events of deleted persons until these are erased.
    let look = |conn: &mut Conn| {
        let erased = erasures::event_names(conn, shard_key)?;
        let mut events = mismatched_events(conn, shard_key)?;
        events.retain(|event| !erased.contains(event));
        Ok::<_, Error>(events)
    };
    let mut events = cohorts_store::snapshot(conn, look)?;
    for _ in 1..LOOKS {
        if events.is_empty() {
            break;
        }
        pause();
        let now = cohorts_store::snapshot(conn, look)?;
        events.retain(|event| now.contains(event));
    }
    Ok(events)
}

/// Drops the segments of a project if some differ from their rows under the lock of the writers; returns their events.
fn drop_mismatched(conn: &mut Conn, project: ProjectId) -> Result<Vec<String>, Error> {
    let shard_key = project.shard_key();
    cohorts_store::transaction(conn, |conn| {
        projects::lock(conn, project)?;
        let events = mismatched_events(conn, shard_key)?;
        if !events.is_empty() {
            segments::drop_all(conn, shard_key)?;
        }
        Ok(events)
    })
}

/// The projects with an unfinished deletion. A command may be deleting them now, so this is no problem.
fn check_deletions(conn: &mut Conn) -> Result<Vec<Finding>, Error> {
    let unfinished = project_deletion::unfinished(conn)?.into_iter();
    let finding = |project: project_deletion::DeletableProject| {
        let id = project.id;
        let text =
            format!("project {id} is partly deleted; `cohorts project delete {id}` continues");
        Finding::new(true, "deletion", text)
    };
    Ok(unfinished.map(finding).collect())
}

/// The deleted persons that are still in checkpoints. A service erases them in the background, and a deletion may run now,
/// so these are no problems.
fn check_erasures(conn: &mut Conn) -> Result<Finding, Error> {
    let projects = projects::all(conn)?.into_iter();
    let keys: Vec<_> = projects.map(|project| project.shard_key()).collect();
    let counts = erasures::count(conn, &keys)?;
    let persons = |count: i64| counted(count.unsigned_abs(), "person");
    let mut text = match counts.pending {
        0 => "checkpoints contain no deleted persons".to_owned(),
        pending => format!(
            "{} deleted and still in checkpoints; the service erases them within minutes",
            persons(pending)
        ),
    };
    if counts.interrupted > 0 {
        let interrupted = persons(counts.interrupted);
        text += &format!("; {interrupted} without events, but not deleted: delete them again");
    }
    Ok(Finding::new(true, "erasure", text))
}

/// Checks that the secrets of webhooks can be decrypted. A database without webhooks has no such finding.
fn check_secrets(conn: &mut Conn, secrets: &Secrets) -> Result<Option<Finding>, Error> {
    let stored = webhooks::all_secrets(conn)?;
    let all = counted(stored.len() as u64, "webhook");
    let opened = stored.iter().map(|(id, project, stored)| {
        let opened = secrets.open(*project, stored, Utc::now());
        opened.map_err(|cause| format!("the secret of webhook {id} cannot be decrypted: {cause:#}"))
    });
    let first = opened.filter_map(Result::err).next();
    let is_ok = first.is_none();
    let text = first.unwrap_or(format!("the secrets of {all} can be decrypted"));
    Ok((!stored.is_empty()).then(|| Finding::new(is_ok, "webhooks", text)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{JsonText, cohorts, keys};
    use diesel::prelude::*;

    use super::*;
    use crate::commands::demo::{Size, load_and_calculate};
    use crate::config::Database;
    use crate::ingest::{Arrival, Item, commit};
    use crate::metrics::Metrics;

    #[test]
    fn errors_in_another_language_are_a_finding_with_a_remedy() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        assert_eq!(check_language(conn).unwrap().status, FindingStatus::Ok);
        diesel::sql_query("set lc_messages = 'C.UTF-8'")
            .execute(conn)
            .unwrap();
        let finding = check_language(conn).unwrap();
        assert_eq!(finding.status, FindingStatus::Wrong);
        assert!(
            finding.text.contains("let a superuser run"),
            "{}",
            finding.text
        );
    }

    #[test]
    fn local_tables_and_workers_with_problems_are_findings_with_a_remedy() {
        let worker = Worker::of_test;
        let is_ok = |finding: Finding| finding.status == FindingStatus::Ok;
        assert!(is_ok(check_local_tables(&[])));
        assert_eq!(report_unchecked(0), None);
        let unchecked = report_unchecked(2).unwrap();
        assert!(unchecked.text.starts_with("2 projects not checked") && !is_ok(unchecked));
        let local = check_local_tables(&["events"]);
        assert!(local.text.contains("cohorts distribute") && !is_ok(local));
        assert!(is_ok(check_worker(&worker(true, "0"))));
        let hanging = check_worker(&worker(true, "3"));
        assert!(hanging.text.contains("recover_prepared_transactions") && !is_ok(hanging));
        let lost = check_worker(&worker(false, "connection refused"));
        assert!(lost.text.contains("connection refused") && !is_ok(lost));
    }

    #[test]
    fn a_plain_postgres_has_no_findings_about_workers() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        assert_eq!(check_distribution(conn, &Outages::default()).unwrap(), []);
    }

    fn data_with_checkpoints(database: &TestDatabase) -> Data {
        let data = Data::open(&Database::Url(database.url())).unwrap();
        let size = Size {
            persons: 2_000,
            events: 60_000,
        };
        load_and_calculate(&data, size).unwrap();
        let conn = &mut *data.store.connection().unwrap();
        data.store
            .caches
            .index
            .write_checkpoints(conn, &data.store.outages);
        data
    }

    #[test]
    fn wrong_counts_and_damaged_segments_are_found_and_repaired() {
        let database = TestDatabase::create();
        let data = data_with_checkpoints(&database);
        let conn = &mut *data.store.connection().unwrap();
        // The database of the tests runs without `fsync`, so its settings are wrong.
        let damages = |repair: bool| -> Vec<String> {
            let findings = examine(&data, repair).unwrap().into_iter();
            let damages = findings.filter(|finding| {
                finding.status != FindingStatus::Ok && finding.subject != "settings"
            });
            damages.map(|damage| damage.to_string()).collect()
        };
        assert_eq!(damages(false), Vec::<String>::new());
        for statement in [
            "update cohorts set count = count + 1 where id = (select min(id) from cohorts)",
            "delete from segments where (event, day) = (select event, day from segments limit 1)",
        ] {
            assert!(
                diesel::sql_query(statement).execute(conn).unwrap() > 0,
                "{statement}"
            );
        }
        let before = damages(false);
        assert_eq!(before.len(), 2, "{before:?}");
        assert!(
            before.iter().all(|line| line.starts_with("WRONG")),
            "{before:?}"
        );
        assert!(
            damages(true)
                .iter()
                .all(|line| line.starts_with("repaired"))
        );
        assert_eq!(damages(false), Vec::<String>::new());
    }

    #[test]
    fn segments_of_a_person_that_is_being_deleted_are_not_wrong() {
        let database = TestDatabase::create();
        let data = data_with_checkpoints(&database);
        let conn = &mut *data.store.connection().unwrap();
        let project = projects::all(conn).unwrap()[0];
        // The first commit of a deletion.
        let statement = "delete from events where event = (select event from segments limit 1) and ordinal in ( \
            select ordinal from events where event = (select event from segments limit 1) limit 1)";
        assert!(diesel::sql_query(statement).execute(conn).unwrap() > 0);
        let statuses = |findings: Vec<Finding>| -> Vec<FindingStatus> {
            findings.into_iter().map(|finding| finding.status).collect()
        };
        let projects = projects::all(conn).unwrap();
        let lasting = check_segments(conn, &projects, false, || ()).unwrap();
        assert_eq!(statuses(lasting), [FindingStatus::Wrong]);
        // The last commit follows while the doctor waits.
        let finish = || {
            let conn = &mut *data.store.connection().unwrap();
            segments::drop_all(conn, project.shard_key()).unwrap();
        };
        for repair in [false, true] {
            let passing = check_segments(conn, &projects, repair, finish).unwrap();
            assert_eq!(statuses(passing), [FindingStatus::Ok]);
        }
    }

    /// Merges and calculations run while the counts are checked and repaired.
    #[test]
    fn counts_of_a_busy_service_are_never_wrong() {
        const PERSONS: usize = 120;
        let database = TestDatabase::create();
        let data = Data::open(&Database::Url(database.url())).unwrap();
        let conn = &mut *data.store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let item =
            |text: String| Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
        let event = |nth| item(format!(r#"{{"event": "x", "distinct_id": "p{nth}"}}"#));
        let events: Vec<Item> = (0..PERSONS).map(event).collect();
        commit(&data.store, project, &events).unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        let leaf = r#"{"type": "person", "key": "none", "operator": "is_not_set"}"#;
        let filters = format!(r#"{{"properties": {{"type": "OR", "values": [{leaf}]}}}}"#);
        definition.set_filters(Some(JsonText(filters)));
        let cohort = cohorts::create(conn, project, &owner, &definition).unwrap();
        let calculator = data.calculator(Metrics::new(&data.store.statements).unwrap());
        let is_merging = AtomicBool::new(true);
        let checks = thread::scope(|scope| {
            scope.spawn(|| {
                for nth in 1..PERSONS {
                    let merge = item(format!(
                        r#"{{"event": "$merge_dangerously", "distinct_id": "p0", "properties": {{"alias": "p{nth}"}}}}"#
                    ));
                    commit(&data.store, project, &[merge]).unwrap();
                }
                is_merging.store(false, Ordering::Relaxed);
            });
            scope.spawn(|| {
                let conn = &mut *data.store.connection().unwrap();
                while is_merging.load(Ordering::Relaxed) {
                    queue::request_calculation(conn, cohort.id()).unwrap();
                    calculator.run_project(project).unwrap();
                }
            });
            let mut checks = 0;
            while is_merging.load(Ordering::Relaxed) {
                let projects = projects::all(conn).unwrap();
                let findings = check_counts(conn, &projects, checks % 2 == 1).unwrap();
                let is_ok = |finding: &Finding| finding.status == FindingStatus::Ok;
                assert!(findings.iter().all(is_ok), "{findings:?}");
                checks += 1;
            }
            checks
        });
        assert!(checks > 1);
        queue::request_calculation(conn, cohort.id()).unwrap();
        calculator.run_project(project).unwrap();
        let (row, _) = cohorts::find(conn, project, cohort.id()).unwrap().unwrap();
        assert_eq!(row.count, Some(1));
    }
}
