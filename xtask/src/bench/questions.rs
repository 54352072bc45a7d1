//! Measures the questions about cohorts: explain, memberships, overlap, compare and the catalogue; then captures and the feed
//! with and without such questions.
//!
//! All times are those of a client on the same machine, with the response read to its end.

mod beside;
mod catalogue;
mod catalogue_work;
mod load;

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::Report;
use super::measurement::{median, percentile_of_sorted};
use super::population::Population;
use super::serving::{
    CalculatedCohort, calculated, create_cohort, kind_named, wait_for_calculation,
};
use crate::service::{Access, Service};
pub use catalogue_work::measure as measure_catalogue_work;

/// The explained memberships.
const EXPLANATIONS: usize = 2_000;
/// The cohorts of memberships and overlaps.
const COHORTS: i64 = 100;
/// The persons of one request for memberships.
const PERSONS: usize = 1_000;
/// The repetitions of the other questions.
const REPETITIONS: usize = 30;

/// The questions to the service about a population of this size.
pub struct QuestionBench<'a> {
    pub service: &'a Service,
    pub access: &'a Access,
    pub population: &'a Population,
}

/// The times of different requests of one kind, in milliseconds.
struct Times {
    median: f64,
    p99: f64,
    longest: f64,
}

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        let median = median(&mut times);
        Self {
            median,
            p99: percentile_of_sorted(&times, 0.99),
            longest: percentile_of_sorted(&times, 1.0),
        }
    }

    fn text(&self) -> String {
        let Self {
            median,
            p99,
            longest,
        } = self;
        format!("median {median:.2} ms, p99 {p99:.2} ms, longest {longest:.1} ms")
    }

    fn json(&self) -> Value {
        json!({"median_ms": self.median, "p99_ms": self.p99, "longest_ms": self.longest})
    }
}

/// The first time, and the median and the longest of later ones, in milliseconds.
struct RepeatedTimes {
    first: f64,
    median: f64,
    longest: f64,
}

impl RepeatedTimes {
    fn text(&self) -> String {
        let Self {
            first,
            median,
            longest,
        } = self;
        format!("first {first:.1} ms, then {median:.2} ms (longest {longest:.1} ms)")
    }

    fn json(&self) -> Value {
        json!({"first_ms": self.first, "median_ms": self.median, "longest_ms": self.longest})
    }
}

impl QuestionBench<'_> {
    pub fn measure(&self, report: &mut Report) -> Result<()> {
        self.measure_explanations(report)?;
        self.measure_many_cohorts(report)?;
        self.measure_comparison(report)?;
        catalogue::measure(self, report)?;
        beside::measure(self, report)
    }

    /// The times to explain memberships of random persons in a cohort of several criteria.
    fn measure_explanations(&self, report: &mut Report) -> Result<()> {
        let kind = kind_named("Q6")?;
        let cohort = create_cohort(self.service, self.access, "explained", &kind.filters)?;
        wait_for_calculation(self.service, self.access, cohort, None)?;
        let rng = &mut StdRng::seed_from_u64(7);
        let mut times = Vec::new();
        for _ in 0..EXPLANATIONS {
            let id = rng.random_range(0..self.population.size.persons);
            let path = format!("cohorts/{cohort}/explain/?distinct_id=p{id}");
            let start = Instant::now();
            let text = self.service.get_text(self.access, &path)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            let explanation: Value = serde_json::from_str(&text)?;
            ensure!(explanation["member"].is_boolean(), "{explanation}");
        }
        self.service.delete_cohort(self.access, cohort)?;
        let times = Times::of(times);
        report.add("explain", times.text(), times.json())
    }

    /// Memberships of 1,000 persons in 100 cohorts, and the overlap of these cohorts.
    fn measure_many_cohorts(&self, report: &mut Report) -> Result<()> {
        let ids = self.create_cohorts()?;
        let body = self.memberships(&ids);
        let memberships = self.repeated("cohorts/memberships/", &body, |response| {
            let results = response["results"].as_array();
            results.is_some_and(|results| results.len() == PERSONS)
        })?;
        report.add("memberships", memberships.text(), memberships.json())?;
        let body = json!({"cohort_ids": ids});
        let overlap = self.repeated("cohorts/overlap/", &body, |response| {
            let counts = response["counts"].as_array();
            counts.is_some_and(|counts| counts.len() == ids.len())
        })?;
        report.add("overlap", overlap.text(), overlap.json())?;
        self.delete_cohorts(&ids)
    }

    /// Creates and calculates cohorts by age.
    fn create_cohorts(&self) -> Result<Vec<i64>> {
        let cohorts = (0..COHORTS).map(|nth| self.create_by_age(nth));
        let ids: Vec<i64> = cohorts.collect::<Result<_>>()?;
        for id in &ids {
            wait_for_calculation(self.service, self.access, *id, None)?;
        }
        Ok(ids)
    }

    fn delete_cohorts(&self, ids: &[i64]) -> Result<()> {
        ids.iter()
            .try_for_each(|id| self.service.delete_cohort(self.access, *id))
    }

    /// The question for the memberships of persons in cohorts.
    fn memberships(&self, cohorts: &[i64]) -> Value {
        let stride = self.population.size.persons / PERSONS;
        let persons = (0..PERSONS).map(|nth| format!("p{}", nth * stride.max(1)));
        json!({"distinct_ids": Vec::from_iter(persons), "cohort_ids": cohorts})
    }

    /// Creates a cohort of the persons below or above an age. The ages from 16 to 79 are equally frequent.
    fn create_by_age(&self, nth: i64) -> Result<i64> {
        let operator = if nth % 2 == 0 { "lt" } else { "gte" };
        let filters = json!({"properties": {"type": "AND", "values": [
            {"type": "person", "key": "age", "operator": operator, "value": 17 + nth / 2}]}});
        create_cohort(self.service, self.access, "by age", &filters)
    }

    /// A comparison with all persons of the most frequent properties and of all events.
    fn measure_comparison(&self, report: &mut Report) -> Result<()> {
        let kind = kind_named("Q6")?;
        let CalculatedCohort { id, members } =
            calculated(self.service, self.access, "compared", &kind.filters)?;
        let path = format!("cohorts/{id}/compare/");
        let compared =
            self.repeated(&path, &json!({}), |response| response["inside"] == members)?;
        self.service.delete_cohort(self.access, id)?;
        report.add("compare", compared.text(), compared.json())
    }

    /// The times of a request that is sent several times.
    fn repeated(
        &self,
        path: &str,
        body: &Value,
        is_right: impl Fn(&Value) -> bool,
    ) -> Result<RepeatedTimes> {
        let mut times = Vec::new();
        for _ in 0..=REPETITIONS {
            let loaded = self.service.post_when_loaded(self.access, path, body)?;
            times.push(loaded.milliseconds);
            ensure!(is_right(&loaded.response), "{path}: an unexpected response");
        }
        let first = times.remove(0);
        let median = median(&mut times);
        let longest = *times.last().context("no times")?;
        Ok(RepeatedTimes {
            first,
            median,
            longest,
        })
    }
}
