//! The load beside the probes: the usual events of the population, at a fixed rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use super::super::population::{Event, Population, write_event};
use crate::service::{Access, Service};

/// Events per second.
const RATE: usize = 500;
/// The events of a request.
const BATCH_EVENTS: usize = 50;

/// Sends events for some time, or until `stops`. Returns their number. A batch is sent when its last event happens; a late
/// batch delays no later one.
pub fn send(
    service: &Service,
    access: &Access,
    population: &Population,
    length: Duration,
    stops: &AtomicBool,
) -> Result<usize> {
    let count = RATE * length.as_secs() as usize;
    let (from, begun) = (Utc::now(), Instant::now());
    let until = from + TimeDelta::from_std(length)?;
    let span = (from.timestamp_millis(), until.timestamp_millis());
    let events: Vec<Event> = population.burst(count, span).collect();
    let mut sent = 0;
    for (nth, batch) in events.chunks(BATCH_EVENTS).enumerate() {
        if stops.load(Ordering::Relaxed) {
            break;
        }
        let first = population.size.events + nth * BATCH_EVENTS;
        let body = body(access, first, batch)?;
        let due = length.mul_f64((sent + batch.len()) as f64 / count as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        service.capture(&body)?;
        sent += batch.len();
    }
    Ok(sent)
}

/// The request that captures events. The first event has the number `first`, which decides its uuid.
pub fn body(access: &Access, first: usize, batch: &[Event]) -> Result<Value> {
    let (mut text, mut line) = (Vec::new(), String::new());
    for (nth, event) in batch.iter().enumerate() {
        write_event(first + nth, event, &mut line, &mut text)?;
    }
    let events = serde_json::Deserializer::from_slice(&text).into_iter();
    let events = events.collect::<Result<Vec<Value>, _>>()?;
    Ok(json!({"api_key": access.token, "batch": events}))
}
