//! What the service counts, for Prometheus.

use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use crate::ingest::Kept;
use crate::store::views::Views;

/// Counters of one service. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    calculations: IntCounterVec,
    calculation_seconds: Histogram,
    events: IntCounter,
    refused: IntCounterVec,
    denied: IntCounterVec,
    connections: IntGauge,
    connections_in_use: IntGauge,
    view_bytes: IntGauge,
    kept_bytes_read: IntGauge,
    waiting: IntGauge,
    oldest_due: Gauge,
    errors: IntCounterVec,
}

impl Metrics {
    /// `statements` counts those that were sent to the database.
    pub fn new(statements: &IntCounter) -> anyhow::Result<Self> {
        let metrics = Self::registered();
        let all = metrics.and_then(|metrics| {
            metrics.registry.register(Box::new(statements.clone()))?;
            Ok(metrics)
        });
        all.context("the metrics cannot be set up")
    }

    fn registered() -> prometheus::Result<Self> {
        let seconds = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(0.001, 4.0, 9)?;
            Ok::<_, prometheus::Error>(HistogramOpts::new(name, help).buckets(buckets))
        };
        let metrics = Self {
            registry: Registry::new(),
            requests: HistogramVec::new(
                seconds(
                    "cohorts_request_seconds",
                    "Requests, by method, path and status.",
                )?,
                &["method", "path", "status"],
            )?,
            calculations: IntCounterVec::new(
                Opts::new(
                    "cohorts_calculations_total",
                    "Calculations that have ended, by how.",
                ),
                &["result"],
            )?,
            calculation_seconds: Histogram::with_opts(seconds(
                "cohorts_calculation_seconds",
                "How long calculations took.",
            )?)?,
            events: IntCounter::new(
                "cohorts_events_total",
                "Events that were taken in and not known before.",
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "cohorts_events_refused_total",
                    "Items that were not taken in, by reason.",
                ),
                &["reason"],
            )?,
            denied: IntCounterVec::new(
                Opts::new(
                    "cohorts_events_denied_total",
                    "What events that were taken in asked of people and did not get, by reason.",
                ),
                &["reason"],
            )?,
            connections: IntGauge::new(
                "cohorts_database_connections",
                "Open connections to the database.",
            )?,
            connections_in_use: IntGauge::new(
                "cohorts_database_connections_in_use",
                "Connections to the database that are in use.",
            )?,
            view_bytes: IntGauge::new(
                "cohorts_view_bytes",
                "Memory of the people and events that are kept at hand for calculations.",
            )?,
            kept_bytes_read: IntGauge::new(
                "cohorts_kept_bytes_read_total",
                "Bytes of kept blocks of events that were read instead of rows.",
            )?,
            waiting: IntGauge::new(
                "cohorts_waiting",
                "Cohorts that wait for their calculation, without those under way.",
            )?,
            oldest_due: Gauge::new(
                "cohorts_oldest_due_seconds",
                "For how long the one of them has waited that has waited longest.",
            )?,
            errors: IntCounterVec::new(
                Opts::new("cohorts_errors_total", "Answers that are errors, by code."),
                &["code"],
            )?,
        };
        let all: [Box<dyn Collector>; 13] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.calculations.clone()),
            Box::new(metrics.calculation_seconds.clone()),
            Box::new(metrics.events.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.denied.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.connections_in_use.clone()),
            Box::new(metrics.view_bytes.clone()),
            Box::new(metrics.kept_bytes_read.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.oldest_due.clone()),
            Box::new(metrics.errors.clone()),
        ];
        for one in all {
            metrics.registry.register(one)?;
        }
        Ok(metrics)
    }

    /// `path` is a route's pattern, so that ids do not make series without end.
    pub fn requested(&self, method: &str, path: &str, status: u16, took: Duration) {
        self.requests
            .with_label_values(&[method, path, &status.to_string()])
            .observe(took.as_secs_f64());
    }

    pub fn calculated(&self, well: bool, took: Duration) {
        let result = if well { "success" } else { "failure" };
        self.calculations.with_label_values(&[result]).inc();
        self.calculation_seconds.observe(took.as_secs_f64());
    }

    /// How many cohorts wait, and for how long the first of them has.
    pub fn waiting(&self, count: i64, longest: TimeDelta) {
        self.waiting.set(count);
        self.oldest_due.set(longest.as_seconds_f64().max(0.0));
    }

    pub fn failed(&self, code: &str) {
        self.errors.with_label_values(&[code]).inc();
    }

    pub fn kept(&self, kept: &Kept) {
        self.events.inc_by(kept.added as u64);
        for (reason, count) in [
            ("merge_of_identified", kept.denied.merges),
            ("too_many_properties", kept.denied.properties),
        ] {
            if count > 0 {
                self.denied.with_label_values(&[reason]).inc_by(count);
            }
        }
    }

    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Everything in Prometheus' text format. The pool tells its connections in use, and all of them.
    pub fn text(&self, (in_use, open): (u32, u32), views: &Views) -> anyhow::Result<String> {
        let number = |bytes: u64| bytes.try_into().unwrap_or(i64::MAX);
        self.view_bytes.set(number(views.bytes()));
        self.kept_bytes_read.set(number(views.kept_bytes_read()));
        self.connections_in_use.set(i64::from(in_use));
        self.connections.set(i64::from(open));
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
