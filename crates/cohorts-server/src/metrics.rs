//! The metrics of the service, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use cohorts_store::{ConnectionCounts, Lane};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The metrics of one service. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: HistogramVec,
    calculations: IntCounterVec,
    calculation_seconds: Histogram,
    events: IntCounter,
    refused: IntCounterVec,
    denied: IntCounterVec,
    dropped_properties: IntCounter,
    replaced_timestamps: IntCounterVec,
    truncated: IntCounterVec,
    connections: IntGaugeVec,
    connections_in_use: IntGaugeVec,
    index_bytes: IntGauge,
    segment_bytes_read: IntCounter,
    index_builds: IntCounter,
    waiting: IntGauge,
    longest_wait: Gauge,
    workers: IntGaugeVec,
    change_log_bytes: IntGauge,
    change_log_limit: IntGauge,
    erasures: IntGauge,
    full_catalogues: IntGauge,
    live_cohorts: IntGaugeVec,
    fallen_cohorts: IntCounterVec,
    passes: IntCounter,
    touched_persons: IntCounter,
    event_to_member: Histogram,
    expiry_lag: Histogram,
    webhook_deliveries: IntCounterVec,
    errors: IntCounterVec,
    /// Held while the metrics are written as text.
    exposing: Arc<Mutex<()>>,
}

/// The figures of the in-memory indexes.
#[derive(Clone, Copy, Debug)]
pub struct IndexFigures {
    /// The memory of all indexes, in bytes.
    pub bytes: u64,
    /// Bytes of segments read.
    pub segment_bytes_read: u64,
    /// Indexes that were built from checkpoints and rows.
    pub builds: u64,
}

impl Metrics {
    /// Registers all metrics. `statements` is the counter of the store.
    pub fn new(statements: &IntCounter) -> anyhow::Result<Self> {
        let metrics = Self::registered();
        let registered = metrics.and_then(|metrics| {
            metrics.registry.register(Box::new(statements.clone()))?;
            Ok(metrics)
        });
        registered.context("the metrics cannot be set up")
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
                    "Duration of requests in seconds, by method, path and status.",
                )?,
                &["method", "path", "status"],
            )?,
            calculations: IntCounterVec::new(
                Opts::new(
                    "cohorts_calculations_total",
                    "Finished calculations, by result.",
                ),
                &["result"],
            )?,
            calculation_seconds: Histogram::with_opts(seconds(
                "cohorts_calculation_seconds",
                "Duration of calculations in seconds.",
            )?)?,
            events: IntCounter::new("cohorts_events_total", "Events added to the log.")?,
            refused: IntCounterVec::new(
                Opts::new("cohorts_events_refused_total", "Refused items, by reason."),
                &["reason"],
            )?,
            denied: IntCounterVec::new(
                Opts::new(
                    "cohorts_events_denied_total",
                    "Denied changes of persons by added events, by reason.",
                ),
                &["reason"],
            )?,
            dropped_properties: IntCounter::new(
                "cohorts_properties_dropped_total",
                "Properties of items that were dropped because their names are too long.",
            )?,
            replaced_timestamps: IntCounterVec::new(
                Opts::new(
                    "cohorts_timestamps_replaced_total",
                    "Times of events that were replaced by the time of the arrival, by reason.",
                ),
                &["reason"],
            )?,
            truncated: IntCounterVec::new(
                Opts::new(
                    "cohorts_truncated_total",
                    "Names in accepted items and uploaded rows that were cut to 200 characters, by field.",
                ),
                &["field"],
            )?,
            connections: IntGaugeVec::new(
                Opts::new(
                    "cohorts_database_connections",
                    "Open database connections, by kind of work.",
                ),
                &["lane"],
            )?,
            connections_in_use: IntGaugeVec::new(
                Opts::new(
                    "cohorts_database_connections_in_use",
                    "Database connections in use, by kind of work.",
                ),
                &["lane"],
            )?,
            index_bytes: IntGauge::new(
                "cohorts_index_bytes",
                "Memory of the in-memory indexes, in bytes.",
            )?,
            segment_bytes_read: IntCounter::new(
                "cohorts_segment_bytes_read_total",
                "Bytes of segments read instead of rows.",
            )?,
            index_builds: IntCounter::new(
                "cohorts_index_builds_total",
                "Indexes built from segments, checkpoints and rows, instead of from an earlier index.",
            )?,
            waiting: IntGauge::new(
                "cohorts_waiting",
                "Cohorts waiting for a calculation, without running ones.",
            )?,
            longest_wait: Gauge::new(
                "cohorts_longest_wait_seconds",
                "Longest current wait of a cohort for its calculation, in seconds.",
            )?,
            workers: IntGaugeVec::new(
                Opts::new(
                    "cohorts_database_workers",
                    "Workers of Citus, by whether they respond. Plain Postgres has none.",
                ),
                &["responds"],
            )?,
            change_log_bytes: IntGauge::new(
                "cohorts_change_log_bytes",
                "Size of the change log of members, in bytes.",
            )?,
            change_log_limit: IntGauge::new(
                "cohorts_change_log_limit_bytes",
                "Limit of the change log of members, in bytes. Beyond it, old changes are deleted.",
            )?,
            erasures: IntGauge::new(
                "cohorts_erasures_pending",
                "Deleted persons that are still in checkpoints.",
            )?,
            full_catalogues: IntGauge::new(
                "cohorts_full_catalogues",
                "Projects with more names of events and properties than the catalogue lists, as far as this process has them in memory.",
            )?,
            live_cohorts: IntGaugeVec::new(
                Opts::new(
                    "cohorts_live",
                    "Dynamic cohorts, by whether each pass of their project includes them.",
                ),
                &["live"],
            )?,
            fallen_cohorts: IntCounterVec::new(
                Opts::new(
                    "cohorts_full_evaluations_total",
                    "Live cohorts that were handed over to a full calculation, by reason.",
                ),
                &["reason"],
            )?,
            passes: IntCounter::new(
                "cohorts_passes_total",
                "Passes over the live cohorts of a project.",
            )?,
            touched_persons: IntCounter::new(
                "cohorts_touched_persons_total",
                "Persons that passes evaluated for at least one cohort.",
            )?,
            event_to_member: Histogram::with_opts(seconds(
                "cohorts_event_to_member_seconds",
                "Time from the first write that a pass includes to the publication of the members.",
            )?)?,
            expiry_lag: Histogram::with_opts(seconds(
                "cohorts_expiry_lag_seconds",
                "Time from the instant at which time alone changes a cohort to the publication.",
            )?)?,
            webhook_deliveries: IntCounterVec::new(
                Opts::new(
                    "cohorts_webhook_deliveries_total",
                    "Attempts to deliver messages of webhooks, by result.",
                ),
                &["result"],
            )?,
            errors: IntCounterVec::new(
                Opts::new("cohorts_errors_total", "Error responses, by code."),
                &["code"],
            )?,
            exposing: Arc::default(),
        };
        let collectors: [Box<dyn Collector>; 29] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.calculations.clone()),
            Box::new(metrics.calculation_seconds.clone()),
            Box::new(metrics.events.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.denied.clone()),
            Box::new(metrics.dropped_properties.clone()),
            Box::new(metrics.replaced_timestamps.clone()),
            Box::new(metrics.truncated.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.connections_in_use.clone()),
            Box::new(metrics.index_bytes.clone()),
            Box::new(metrics.segment_bytes_read.clone()),
            Box::new(metrics.index_builds.clone()),
            Box::new(metrics.waiting.clone()),
            Box::new(metrics.longest_wait.clone()),
            Box::new(metrics.workers.clone()),
            Box::new(metrics.change_log_bytes.clone()),
            Box::new(metrics.change_log_limit.clone()),
            Box::new(metrics.erasures.clone()),
            Box::new(metrics.full_catalogues.clone()),
            Box::new(metrics.live_cohorts.clone()),
            Box::new(metrics.fallen_cohorts.clone()),
            Box::new(metrics.passes.clone()),
            Box::new(metrics.touched_persons.clone()),
            Box::new(metrics.event_to_member.clone()),
            Box::new(metrics.expiry_lag.clone()),
            Box::new(metrics.webhook_deliveries.clone()),
            Box::new(metrics.errors.clone()),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Counts a request. `path` is the pattern of the route, so the number of series is bounded.
    pub fn requested(&self, method: &str, path: &str, status: u16, took: Duration) {
        self.requests
            .with_label_values(&[method, path, &status.to_string()])
            .observe(took.as_secs_f64());
    }

    pub fn calculated(&self, is_success: bool, took: Duration) {
        let result = if is_success { "success" } else { "failure" };
        self.calculations.with_label_values(&[result]).inc();
        self.calculation_seconds.observe(took.as_secs_f64());
    }

    /// Sets the number of waiting cohorts, and how long the first has waited.
    pub fn waiting(&self, count: i64, longest: TimeDelta) {
        self.waiting.set(count);
        self.longest_wait.set(longest.as_seconds_f64().max(0.0));
    }

    /// Sets the numbers of workers that respond and do not respond.
    pub fn workers(&self, responding: usize, others: usize) {
        for (label, count) in [("true", responding), ("false", others)] {
            let gauge = self.workers.with_label_values(&[label]);
            gauge.set(count.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Sets the size of the change log and its limit, in bytes.
    pub fn change_log(&self, bytes: u64, limit: u64) {
        for (gauge, value) in [
            (&self.change_log_bytes, bytes),
            (&self.change_log_limit, limit),
        ] {
            gauge.set(value.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Sets the number of deleted persons that are still in checkpoints.
    pub fn erasures(&self, pending: i64) {
        self.erasures.set(pending);
    }

    /// Sets the number of projects with a full catalogue.
    pub fn full_catalogues(&self, count: usize) {
        self.full_catalogues.set(count as i64);
    }

    /// Sets the numbers of dynamic cohorts that passes include, and of the others.
    pub fn live(&self, live: i64, others: i64) {
        for (label, count) in [("true", live), ("false", others)] {
            self.live_cohorts.with_label_values(&[label]).set(count);
        }
    }

    /// Counts a pass and the persons that it evaluated.
    pub fn pass(&self, touched: u64) {
        self.passes.inc();
        self.touched_persons.inc_by(touched);
    }

    /// Counts a live cohort that needs a full calculation.
    pub fn fallen(&self, reason: &str) {
        self.fallen_cohorts.with_label_values(&[reason]).inc();
    }

    /// Records the time from a write to the publication of the members.
    pub fn published(&self, since_write: Option<Duration>) {
        if let Some(time) = since_write {
            self.event_to_member.observe(time.as_secs_f64());
        }
    }

    /// Records the time from the instant of an expiry to the publication of the members.
    pub fn expired(&self, lag: Duration) {
        self.expiry_lag.observe(lag.as_secs_f64());
    }

    /// Counts an attempt to deliver a message of a webhook.
    pub fn webhook_delivery(&self, is_delivered: bool) {
        let result = if is_delivered { "delivered" } else { "failed" };
        self.webhook_deliveries.with_label_values(&[result]).inc();
    }

    pub fn failed(&self, code: &str) {
        self.errors.with_label_values(&[code]).inc();
    }

    /// Counts a committed batch: the added events, and the denied changes with their reasons.
    pub fn committed(&self, added: usize, denied: &[(&str, u64)]) {
        self.events.inc_by(added as u64);
        for (reason, count) in denied {
            if *count > 0 {
                self.denied.with_label_values(&[reason]).inc_by(*count);
            }
        }
    }

    /// Counts properties with names that are too long.
    pub fn dropped_properties(&self, count: usize) {
        self.dropped_properties.inc_by(count as u64);
    }

    /// Counts a time of an event that was replaced by the time of the arrival.
    pub fn replaced_timestamp(&self, reason: &str) {
        self.replaced_timestamps.with_label_values(&[reason]).inc();
    }

    /// Counts names that were cut.
    pub fn truncated(&self, field: &str, count: u64) {
        self.truncated.with_label_values(&[field]).inc_by(count);
    }

    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// All metrics in Prometheus' text format. The arguments are the numbers that other modules own.
    pub fn text(
        &self,
        connections: impl Fn(Lane) -> ConnectionCounts,
        index: IndexFigures,
    ) -> anyhow::Result<String> {
        let _exposing = self.exposing.lock();
        (self.index_bytes).set(index.bytes.try_into().unwrap_or(i64::MAX));
        for (counter, total) in [
            (&self.segment_bytes_read, index.segment_bytes_read),
            (&self.index_builds, index.builds),
        ] {
            counter.reset();
            counter.inc_by(total);
        }
        for lane in Lane::ALL {
            let counts = connections(lane);
            for (gauge, count) in [
                (&self.connections_in_use, counts.in_use),
                (&self.connections, counts.open),
            ] {
                gauge.with_label_values(&[lane.name()]).set(count.into());
            }
        }
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
