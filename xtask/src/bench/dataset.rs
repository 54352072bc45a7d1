//! The synthetic population in the data directory of a service. It is loaded once and reused by later runs.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::import::{self, Rates};
use super::kinds;
use super::population::{Population, Size};
use crate::print_line;
use crate::service::{self, Access, Service};

/// The longest time that a service takes to write its checkpoints.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(25);

#[derive(Serialize, Deserialize)]
pub struct Dataset {
    persons: usize,
    events: usize,
    /// The instant of the generation. All events are before it.
    pub now: DateTime<Utc>,
    pub access: Access,
    pub load_seconds: f64,
    /// The number of `$pageview` events.
    pageviews: usize,
}

/// The bytes that a `$pageview` event takes, without its properties.
pub struct EventBytes {
    pub memory: f64,
    pub stored: f64,
}

impl Dataset {
    /// Opens the dataset of an earlier run, or generates and imports one of `size`.
    pub fn open(root: &Path, directory: &Path, size: Size) -> Result<Dataset> {
        let file = directory.join("about.json");
        let text = fs::read_to_string(&file).ok();
        let dataset: Option<Dataset> = text.and_then(|text| serde_json::from_str(&text).ok());
        let is_same =
            |dataset: &Dataset| (dataset.persons, dataset.events) == (size.persons, size.events);
        if let Some(dataset) = dataset.filter(is_same) {
            return Ok(dataset);
        }
        // Without a matching file, the data is from an interrupted run or of another size.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
        let dataset = Dataset::load(root, directory, size)?;
        fs::write(&file, serde_json::to_string(&dataset)?)?;
        Ok(dataset)
    }

    fn load(root: &Path, directory: &Path, size: Size) -> Result<Dataset> {
        let now = Utc::now();
        let population = Population::new(size, now.timestamp_millis());
        print_line(format!(
            "loading {} persons and {} events",
            size.persons, size.events
        ))?;
        let access = service::create_project(root, directory, "Bench")?;
        let rates = &mut Rates::new(&population);
        let (run, counts) = import::import(root, directory, access.project, &population, rates)?;
        let load_seconds = run.seconds;
        print_line(format!(
            "loaded in {load_seconds:.1} s, {:.0} events per second",
            size.events as f64 / load_seconds
        ))?;
        Ok(Dataset {
            persons: size.persons,
            events: size.events,
            now,
            access,
            load_seconds,
            pageviews: counts.pageviews(),
        })
    }

    /// The persons and events of this dataset.
    pub fn population(&self, size: Size) -> Population {
        Population::new(size, self.now.timestamp_millis())
    }

    /// Runs every kind once and waits until the service has written its checkpoints. It stores only what a cohort reads,
    /// so each kind has one.
    pub fn write_checkpoints(&self, root: &Path, directory: &Path) -> Result<()> {
        let service = Service::start(root, directory)?;
        if service.get(&self.access, "cohorts/?limit=1")?["count"] == 0 {
            let kinds = kinds::kinds().into_iter();
            let filters = kinds.map(|kind| kind.filters).chain([pageview_filter()]);
            for filters in filters {
                let body = json!({"name": "stored", "filters": filters});
                service.post(&self.access, "cohorts/", &body)?;
            }
        }
        drop(service);
        // The index of the new process knows the cohorts.
        let service = Service::start(root, directory)?;
        for kind in kinds::kinds() {
            service.preview(&self.access, &kind.filters, self.now)?;
        }
        service.preview(&self.access, &pageview_filter(), self.now)?;
        thread::sleep(CHECKPOINT_WAIT);
        Ok(())
    }

    /// Measures the bytes of a `$pageview` event in memory and in the checkpoints.
    pub fn event_bytes(&self, root: &Path, directory: &Path) -> Result<EventBytes> {
        let service = Service::start(root, directory)?;
        service.preview(&self.access, &pageview_filter(), self.now)?;
        let pageviews = self.pageviews as f64;
        Ok(EventBytes {
            memory: service.metric("cohorts_index_bytes")? / pageviews,
            stored: service.metric("cohorts_segment_bytes_read_total")? / pageviews,
        })
    }
}

/// The filter of all persons with a `$pageview` event.
fn pageview_filter() -> Value {
    json!({"properties": {"type": "AND", "values": [
        {"type": "behavioral", "value": "performed_event", "key": "$pageview", "event_type": "events",
            "time_value": 91, "time_interval": "day"}]}})
}
