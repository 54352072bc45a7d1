//! Measures captures and the feed with and without a steady load of questions, in alternating rounds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::Report;
use super::super::live::follower::Follower;
use super::super::live::load::body;
use super::super::live::probes::{Latencies, ProbeCohorts};
use super::super::measurement::median;
use super::super::population::Event;
use super::super::serving::wait_for_calculation;
use super::QuestionBench;
use super::load::{Asked, Questions};

/// The rounds that count. One before them warms up.
const ROUNDS: usize = 7;
/// The requests of 500 events in a round, from one caller.
const BATCHES: usize = 30;
const BATCH_EVENTS: usize = 500;
/// The requests of one event in a round.
const SINGLES: usize = 1_500;
/// The concurrent callers with one event each.
const CALLERS: usize = 4;
/// How long probes are sent in a round.
const PROBES: Duration = Duration::from_secs(5);
/// The longest time until a probe is visible.
const PATIENCE: Duration = Duration::from_secs(60);
/// The events of a round have times in this span before it.
const SPAN: TimeDelta = TimeDelta::seconds(10);

/// What is measured in each round.
const FIGURES: [&str; 4] = [
    "events per second in requests of 500",
    "events per second in requests of one",
    "ms from an event to the feed, median",
    "ms from an event to the feed, 99th percentile",
];
const KEYS: [&str; 4] = ["batch_rate", "single_rate", "feed_p50_ms", "feed_p99_ms"];

struct Rounds<'a> {
    bench: &'a QuestionBench<'a>,
    probes: ProbeCohorts,
    /// The number of events that were sent.
    sent: usize,
}

/// Alternates rounds without and with questions, and reports the ratios of the medians.
pub fn measure(bench: &QuestionBench<'_>, report: &mut Report) -> Result<()> {
    let cohorts = bench.create_cohorts()?;
    let questions = Questions::new(bench, &cohorts)?;
    let probes = ProbeCohorts::create(bench.service, bench.access)?;
    let probe_ids = probes.ids;
    for cohort in probe_ids {
        wait_for_calculation(bench.service, bench.access, cohort, None)?;
    }
    let mut rounds = Rounds {
        bench,
        probes,
        sent: 0,
    };
    let mut figures: [[Vec<f64>; FIGURES.len()]; 2] = Default::default();
    let (mut asked, mut seconds) = (Asked::default(), 0.0);
    for round in 0..=ROUNDS {
        // Each comes first in every other round.
        for has_questions in [round % 2 == 1, round % 2 == 0] {
            let start = Instant::now();
            let measured = if has_questions {
                let (measured, answers) = rounds.measure_with(&questions)?;
                asked.add(answers);
                seconds += start.elapsed().as_secs_f64();
                measured
            } else {
                rounds.measure()?
            };
            let figures = figures[usize::from(has_questions)].iter_mut();
            if round > 0 {
                figures
                    .zip(measured)
                    .for_each(|(all, figure)| all.push(figure));
            }
        }
    }
    bench.delete_cohorts(&probe_ids)?;
    bench.delete_cohorts(&cohorts)?;
    let [without, with] = figures.map(|figures| figures.map(|mut all| median(&mut all)));
    add_ratios(report, without, with)?;
    let rate = asked.questions as f64 / seconds;
    let time = asked.seconds * 1e3 / asked.questions as f64;
    report.add(
        "beside_questions",
        format!(
            "{rate:.1} questions per second, {time:.1} ms each, {} of {} refused",
            asked.refusals, asked.questions
        ),
        json!({"per_second": rate, "mean_ms": time, "questions": asked.questions, "refusals": asked.refusals}),
    )
}

fn add_ratios(
    report: &mut Report,
    without: [f64; FIGURES.len()],
    with: [f64; FIGURES.len()],
) -> Result<()> {
    for (nth, (name, key)) in FIGURES.iter().zip(KEYS).enumerate() {
        let (without, with) = (without[nth], with[nth]);
        let ratio = with / without;
        report.add(
            &format!("beside_{key}"),
            format!("{without:.1} {name}, {with:.1} with questions (ratio {ratio:.2})"),
            json!({"without": without, "with": with, "ratio": ratio}),
        )?;
    }
    Ok(())
}

impl Rounds<'_> {
    /// A round beside questions.
    fn measure_with(&mut self, questions: &Questions<'_>) -> Result<([f64; FIGURES.len()], Asked)> {
        let stops = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| questions.ask(&stops));
            let measured = self.measure();
            stops.store(true, Ordering::Relaxed);
            let panicked = |_| anyhow::bail!("the load panicked");
            let asked = load.join().unwrap_or_else(panicked)?;
            Ok((measured?, asked))
        })
    }

    /// The figures of one round.
    fn measure(&mut self) -> Result<[f64; FIGURES.len()]> {
        let batches = self.rate(BATCHES, BATCH_EVENTS, 1)?;
        let singles = self.rate(SINGLES, 1, CALLERS)?;
        let (service, access) = (self.bench.service, self.bench.access);
        let follower = Follower::start(service, access, &self.probes.ids)?;
        let sent = self.probes.send(service, access, PROBES)?;
        let seen = follower.wait_for(&sent, PATIENCE);
        let (p50, p99) = Latencies::of(&sent, &seen)?.of_events();
        Ok([batches, singles, p50, p99])
    }

    /// Sends requests with this number of events each, and returns the events per second.
    fn rate(&mut self, requests: usize, events: usize, callers: usize) -> Result<f64> {
        let bodies = self.bodies(requests, events)?;
        let (next, start) = (AtomicUsize::new(0), Instant::now());
        let send = || -> Result<()> {
            while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.bench.service.capture(body)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let callers: Vec<_> = (0..callers).map(|_| scope.spawn(send)).collect();
            let panicked = |_| anyhow::bail!("a caller panicked");
            let mut callers = callers.into_iter();
            callers.try_for_each(|caller| caller.join().unwrap_or_else(panicked))
        })?;
        Ok((requests * events) as f64 / start.elapsed().as_secs_f64())
    }

    /// The usual events of the population, as requests.
    fn bodies(&mut self, requests: usize, events: usize) -> Result<Vec<Value>> {
        let population = self.bench.population;
        let until = Utc::now();
        let span = ((until - SPAN).timestamp_millis(), until.timestamp_millis());
        let all: Vec<Event> = population.burst(requests * events, span).collect();
        let first = population.size.events + self.sent;
        self.sent += all.len();
        let batches = all.chunks(events).enumerate();
        let batches =
            batches.map(|(nth, batch)| body(self.bench.access, first + nth * events, batch));
        batches.collect()
    }
}
