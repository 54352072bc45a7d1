//! A steady load of questions of all kinds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::super::kinds::{and, person};
use super::super::serving::kind_named;
use super::QuestionBench;
use super::catalogue::searches;

/// The pause between the beginnings of two questions.
const INTERVAL: Duration = Duration::from_millis(100);
/// Questions that may run at a time. If all are late, the load is lower.
const ASKERS: u32 = 2;
/// The previews with different filters.
const PREVIEWS: usize = 4;

/// A request, with a body if it is a POST.
struct Question {
    path: String,
    body: Option<Value>,
}

/// Questions that are asked in turn.
pub struct Questions<'a> {
    bench: &'a QuestionBench<'a>,
    questions: Vec<Question>,
}

/// What a load has asked.
#[derive(Clone, Copy, Default)]
pub struct Asked {
    pub questions: usize,
    /// Those that the service was too busy to answer.
    pub refusals: usize,
    /// The seconds until the answers, in all.
    pub seconds: f64,
}

impl Asked {
    pub fn add(&mut self, other: Self) {
        self.questions += other.questions;
        self.refusals += other.refusals;
        self.seconds += other.seconds;
    }
}

impl<'a> Questions<'a> {
    /// Each kind of question once per turn, and one of each kind of search. All data is loaded then.
    pub fn new(bench: &'a QuestionBench<'a>, cohorts: &[i64]) -> Result<Self> {
        let post = |path: String, body| Question {
            path,
            body: Some(body),
        };
        let get = |path: String| Question { path, body: None };
        let first = cohorts[0];
        let mut questions = Vec::new();
        for nth in 0..PREVIEWS {
            let person = nth * bench.population.size.persons / PREVIEWS;
            let explain = format!("cohorts/{first}/explain/?distinct_id=p{person}");
            questions.push(get(explain));
            questions.push(post(
                "cohorts/memberships/".to_owned(),
                bench.memberships(cohorts),
            ));
            let body = json!({"cohort_ids": cohorts});
            questions.push(post("cohorts/overlap/".to_owned(), body));
            questions.push(post(format!("cohorts/{first}/compare/"), json!({})));
            let age = person_of_age(nth)?;
            questions.push(post("cohorts/preview/".to_owned(), age));
            let searches = searches().into_iter();
            let searches = searches.map(|search| search.paths[nth % search.paths.len()].clone());
            questions.extend(searches.map(get));
        }
        for Question { path, body } in &questions {
            (bench.service).when_loaded(bench.access, path, body.as_ref())?;
        }
        Ok(Self { bench, questions })
    }

    /// Asks until `stops`.
    pub fn ask(&self, stops: &AtomicBool) -> Result<Asked> {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let asker = |nth| {
                let (next, stops) = (&next, &stops);
                scope.spawn(move || self.ask_in_turn(INTERVAL * nth, next, stops))
            };
            let askers: Vec<_> = (0..ASKERS).map(asker).collect();
            let mut total = Asked::default();
            for asker in askers {
                let panicked = |_| anyhow::bail!("a thread with questions panicked");
                total.add(asker.join().unwrap_or_else(panicked)?);
            }
            Ok(total)
        })
    }

    /// Asks each question that is next, one per [`ASKERS`] intervals. A late question delays no later one.
    fn ask_in_turn(
        &self,
        start: Duration,
        next: &AtomicUsize,
        stops: &AtomicBool,
    ) -> Result<Asked> {
        let (begun, mut due) = (Instant::now(), start);
        let mut asked = Asked::default();
        loop {
            thread::sleep(due.saturating_sub(begun.elapsed()));
            if stops.load(Ordering::Relaxed) {
                return Ok(asked);
            }
            let nth = next.fetch_add(1, Ordering::Relaxed);
            let Question { path, body } = &self.questions[nth % self.questions.len()];
            let start = Instant::now();
            let (status, text) =
                (self.bench.service).ask(self.bench.access, path, body.as_ref())?;
            asked.seconds += start.elapsed().as_secs_f64();
            asked.questions += 1;
            let is_busy = [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::SERVICE_UNAVAILABLE,
            ]
            .contains(&status);
            ensure!(is_busy || status.is_success(), "{path}: {status}: {text}");
            asked.refusals += usize::from(is_busy);
            due = (due + INTERVAL * ASKERS).max(begun.elapsed());
        }
    }
}

/// A draft of a person who types: one of the kinds of cohort, from an age on.
fn person_of_age(nth: usize) -> Result<Value> {
    let kind = kind_named("Q6")?.filters["properties"].clone();
    let age = person("age", "gte", json!(20 + nth));
    Ok(json!({"filters": and(vec![kind, age])}))
}
