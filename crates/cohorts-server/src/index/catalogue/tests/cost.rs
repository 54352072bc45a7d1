//! What the catalogue costs captures of events with known names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohorts_store::testing::TestDatabase;
use cohorts_store::{ProjectId, projects};
use serde_json::json;

use super::super::{CatalogueNames, Evidence, HeadMoves};
use crate::index::IndexedStore;
use crate::ingest::{Arrival, Item, commit};

/// The rounds that count. One before them warms up.
const ROUNDS: usize = 9;
/// The events of a round, per number of events in a commit.
const SIZES: [(usize, usize); 2] = [(500, 20_000), (1, 1_000)];
/// The names of events. With their properties, they are within the limits of a catalogue, which are low in tests.
const EVENTS: usize = 10;
/// The pause between two looks of the thread that stores names.
const TICK: Duration = Duration::from_millis(200);

/// A project with a catalogue or without one. A process that never follows a log compares no names.
struct Capturer {
    store: IndexedStore,
    project: ProjectId,
}

impl Capturer {
    fn new(database: &TestDatabase, token: &str) -> Self {
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", token).unwrap().id();
        Self { store, project }
    }

    /// Reads and commits events. Returns the seconds.
    fn capture(&self, events: usize, batch: usize, next: &mut usize) -> f64 {
        let batches = (0..events / batch).map(|_| {
            let texts = (0..batch).map(|_| text(next));
            texts.collect::<Vec<String>>()
        });
        let batches: Vec<Vec<String>> = batches.collect();
        let start = Instant::now();
        for texts in &batches {
            let items: Vec<Item> = texts.iter().map(|text| item(text)).collect();
            commit(&self.store, self.project, &items).unwrap();
        }
        start.elapsed().as_secs_f64()
    }

    /// Stores names as the background thread does, until the flag is set.
    fn follow(&self, stops: &AtomicBool) {
        while !stops.load(Ordering::Relaxed) {
            let conn = &mut *self.store.connection().unwrap();
            let catalogue = &self.store.caches.catalogue;
            catalogue
                .follow(conn, self.project, HeadMoves::Needed)
                .unwrap();
            thread::sleep(TICK);
        }
    }
}

/// An event of the size of a usual page view.
fn text(next: &mut usize) -> String {
    *next += 1;
    let nth = *next;
    let plan = ["free", "pro"][nth % 2];
    let properties = json!({"$browser": "Chrome", "$os": "Linux", "$lib": "web", "$screen_width": 1920 + nth % 7,
        "$current_url": format!("https://app.example.com/p/{}", nth % 400), "price": nth % 90, "$session_id": nth,
        "is_trial": nth.is_multiple_of(2), "$set": {"plan": plan, "seen_at": "2026-03-01T00:00:00Z"}});
    let event = json!({"event": format!("e{}", nth % EVENTS), "distinct_id": format!("p{}", nth * 7_919 % 2_000),
        "properties": properties});
    event.to_string()
}

fn item(text: &str) -> Item {
    Item::read(text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
}

/// Seconds of all rounds, sorted.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The microseconds to compare the names of an event with the known ones.
fn comparison(names: &CatalogueNames) -> f64 {
    let mut next = 0;
    let items: Vec<Item> = (0..10_000).map(|_| item(&text(&mut next))).collect();
    let start = Instant::now();
    let mut evidence = Evidence::default();
    for item in &items {
        evidence.add_event(&item.event, &item.properties.0, names);
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!(evidence.is_empty(), "{evidence:?}");
    seconds * 1e6 / items.len() as f64
}

#[test]
#[ignore = "measures for a minute; `cargo xtask bench --questions` runs it"]
#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn captures_with_and_without_the_catalogue() {
    let database = TestDatabase::create();
    let with = Capturer::new(&database, "phc_with");
    let without = Capturer::new(&database, "phc_without");
    let stops = Arc::new(AtomicBool::new(false));
    let mut figures = json!({});
    thread::scope(|scope| {
        scope.spawn(|| with.follow(&stops));
        for (batch, events) in SIZES {
            let (mut next, mut seconds) = (0, [Vec::new(), Vec::new()]);
            for round in 0..=ROUNDS {
                // Each comes first in every other round.
                for nth in [round % 2, 1 - round % 2] {
                    let time = [&without, &with][nth].capture(events, batch, &mut next);
                    if round > 0 {
                        seconds[nth].push(time);
                    }
                }
            }
            let [without, with] = seconds.map(|seconds| events as f64 / median(seconds));
            figures[format!("commits_of_{batch}")] = json!({"without_per_second": without,
                "with_per_second": with, "ratio": with / without});
        }
        stops.store(true, Ordering::Relaxed);
    });
    let conn = &mut *with.store.connection().unwrap();
    let names = with
        .store
        .caches
        .catalogue
        .read(conn, with.project)
        .unwrap();
    assert_eq!(names.names.events().count(), EVENTS);
    assert!(without.store.caches.catalogue.0.lock().is_empty());
    figures["comparison_us_per_event"] = json!(comparison(&names.names));
    println!("figures: {figures}");
}
