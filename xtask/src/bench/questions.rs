//! Measures the questions about cohorts: explain, memberships, overlap and compare.
//!
//! All times are those of a client on the same machine, with the response read to its end.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::Report;
use super::measurement::{median, percentile_of_sorted};
use super::population::Size;
use super::serving::{
    CalculatedCohort, calculated, create_cohort, kind_named, wait_for_calculation,
};
use crate::service::{Access, Service};

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
    pub size: Size,
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
        self.measure_comparison(report)
    }

    /// The times to explain memberships of random persons in a cohort of several criteria.
    fn measure_explanations(&self, report: &mut Report) -> Result<()> {
        let kind = kind_named("Q6")?;
        let cohort = create_cohort(self.service, self.access, "explained", &kind.filters)?;
        wait_for_calculation(self.service, self.access, cohort, None)?;
        let rng = &mut StdRng::seed_from_u64(7);
        let mut times = Vec::new();
        for _ in 0..EXPLANATIONS {
            let id = rng.random_range(0..self.size.persons);
            let path = format!("cohorts/{cohort}/explain/?distinct_id=p{id}");
            let start = Instant::now();
            let text = self.service.get_text(self.access, &path)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            let explanation: Value = serde_json::from_str(&text)?;
            ensure!(explanation["member"].is_boolean(), "{explanation}");
        }
        self.service.delete_cohort(self.access, cohort)?;
        let middle = median(&mut times);
        let (p99, longest) = (percentile_of_sorted(&times, 0.99), times[times.len() - 1]);
        report.add(
            "explain",
            format!("median {middle:.2} ms, p99 {p99:.2} ms, longest {longest:.1} ms"),
            json!({"median_ms": middle, "p99_ms": p99, "longest_ms": longest}),
        )
    }

    /// Memberships of 1,000 persons in 100 cohorts, and the overlap of these cohorts.
    fn measure_many_cohorts(&self, report: &mut Report) -> Result<()> {
        let cohorts = (0..COHORTS).map(|nth| self.create_by_age(nth));
        let ids: Vec<i64> = cohorts.collect::<Result<_>>()?;
        for id in &ids {
            wait_for_calculation(self.service, self.access, *id, None)?;
        }
        let stride = self.size.persons / PERSONS;
        let persons = (0..PERSONS).map(|nth| format!("p{}", nth * stride.max(1)));
        let body = json!({"distinct_ids": Vec::from_iter(persons), "cohort_ids": ids});
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
        ids.iter()
            .try_for_each(|id| self.service.delete_cohort(self.access, *id))
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
