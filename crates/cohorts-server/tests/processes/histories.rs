//! Random histories of a project over HTTP, with kills at commit points: each replay of the feed ends with the members.
//!
//! A history makes random changes while readers follow the feed from the start, from now, and from random cursors. At one
//! point in the code, the service or its Postgres is killed. At the end, all readers have the same members as the export.
//! `cargo xtask soak --histories N` runs many histories.

mod kill_orders;
mod project;
mod readers;
mod site;

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::changes::assert_log_is_right;
use kill_orders::{KillOrder, POINTS, turn};
use project::LivingProject;
use readers::Readers;
use site::Site;

/// The random changes of a history.
const CHANGES: usize = 12;
/// The most changes after these, until the point of the kill is reached.
const FURTHER_CHANGES: usize = 30;

/// Runs a history, with a kill at the point that has its turn.
fn run_history(site: &Site, nth: usize) {
    let rng = &mut StdRng::seed_from_u64(nth as u64);
    let (point, victim) = turn(nth);
    let mut project = LivingProject::create(site, rng);
    let mut readers = Readers::begin(&project);
    project.create_cohorts(rng);
    readers.name_cohorts(&project);
    let kill_at = rng.random_range(0..CHANGES);
    for change in 0..CHANGES {
        if change == kill_at {
            site.orders.place(KillOrder { point, victim });
        }
        project.change(rng);
        readers.read_some(&project, rng);
    }
    for _ in 0..FURTHER_CHANGES {
        if site.orders.is_taken() {
            break;
        }
        project.reach(point, rng);
        readers.read_some(&project, rng);
    }
    assert!(site.orders.is_taken(), "history {nth}: no kill at {point}");
    project.settle(nth);
    readers.check(&project, nth);
}

/// Runs histories on some processes that share a database, and prints how often each point was reached.
#[expect(clippy::print_stdout, reason = "the summary is the result")]
fn run_histories(numbers: std::ops::Range<usize>, processes: usize) {
    let site = Site::start(processes);
    let begun = Instant::now();
    let count = numbers.len();
    for nth in numbers {
        run_history(&site, nth);
    }
    let summary = site.orders.summary();
    println!(
        "{count} histories on {processes} processes in {:.0} s: every replay of the feed ended with the members",
        begun.elapsed().as_secs_f64()
    );
    println!("{summary}");
    assert!(summary.fewest_kills() >= count / POINTS.len());
    let at = site.stop();
    assert_log_is_right(&at);
}

#[test]
fn replays_of_the_feed_end_with_the_members_on_one_process() {
    run_histories(0..3, 1);
}

#[test]
fn replays_of_the_feed_end_with_the_members_on_three_processes() {
    run_histories(5..8, 3);
}

/// The last point: a lost response of a request with an `Idempotency-Key`.
#[test]
fn a_retry_with_a_key_after_a_kill_has_no_second_effect() {
    run_histories(POINTS.len() - 1..POINTS.len(), 1);
}

/// Each point has the same number of kills: at least ten with 150 histories.
#[test]
#[ignore = "takes long; `cargo xtask soak --histories N` runs it"]
fn many_replays_of_the_feed_end_with_the_members() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let histories = number("COHORTS_SOAK_HISTORIES").unwrap_or(300);
    let first = number("COHORTS_SOAK_FIRST").unwrap_or(0);
    let processes = number("COHORTS_SOAK_PROCESSES").unwrap_or(1);
    run_histories(first..first + histories, processes);
}
