//! Whatever is killed, nothing that was acknowledged is lost or counted twice, and nothing is stuck.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{
    Access, At, Service, count, database, event, often, sent, signal, until, well,
};

/// A number that looks like chance, and is the same each time.
fn chance(nth: u64, below: u64) -> u64 {
    (nth + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(23)
        % below
}

/// Sends batches of ten events, each again and again until it is acknowledged, and tells how many there were.
fn write(of: &Access, writer: u128, url: &Mutex<String>, stop: &AtomicBool) -> usize {
    let mut batches = 0;
    while !stop.load(Ordering::Relaxed) {
        let person = format!("w{writer}");
        let first = writer << 40 | (batches as u128 * 10);
        let batch = (0..10).map(|nth| event(&person, first + nth)).collect();
        // One that was begun is sent to its end, or nobody knows what became of it.
        until("a batch is acknowledged", || {
            let url = url.lock().unwrap().clone();
            sent(&url, of, &batch)
        });
        batches += 1;
    }
    batches * 10
}

fn postmaster(directory: &Path) -> Option<PathBuf> {
    let file = directory.join("postgres/data/postmaster.pid");
    file.exists().then_some(file)
}

#[test]
fn what_is_acknowledged_survives_kills_of_the_service_and_of_its_postgres() {
    let directory = TempDir::new().unwrap();
    let at = At::Directory(directory.path().to_owned());
    let of = at.project();
    let service = Service::start(&at, &["--freshness", "1"]);
    let cohorts: Vec<i64> = [1, 100, 1_000_000]
        .map(|least| {
            let body = json!({"name": "c", "filters": often(least)});
            let made = well(&service.url, &of, Method::POST, "cohorts/", Some(&body));
            made["id"].as_i64().unwrap()
        })
        .to_vec();
    let url = Mutex::new(service.url.clone());
    let mut running = Some(service);
    let stop = AtomicBool::new(false);
    let done: Vec<usize> = thread::scope(|scope| {
        let (of, url, stop) = (&of, &url, &stop);
        let writers: Vec<_> = (1..4)
            .map(|writer| scope.spawn(move || write(of, writer, url, stop)))
            .collect();
        for nth in 0..20 {
            thread::sleep(Duration::from_millis(50 + chance(nth, 500)));
            if nth % 4 == 3 {
                let file = until_there(directory.path());
                let text = fs::read_to_string(file).unwrap();
                signal("KILL", text.lines().next().unwrap().trim().parse().unwrap());
            } else {
                running.take().unwrap().kill();
                let service = running.insert(Service::start(&at, &["--freshness", "1"]));
                (*url.lock().unwrap()).clone_from(&service.url);
            }
        }
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let service = running.unwrap();
    assert!(done.iter().all(|events| *events > 0), "{done:?}");
    // Not one more and not one less, for each of them.
    for (events, nth) in done.iter().zip(1..) {
        let exact = json!({"properties": {"type": "AND", "values": [
            {"type": "person", "key": "distinct_id", "operator": "exact", "value": format!("w{nth}")},
            {"type": "behavioral", "value": "performed_event_multiple", "key": "x", "event_type": "events",
                "time_value": 30, "time_interval": "day", "operator": "exact", "operator_value": events}]}});
        assert_eq!(
            count(&service.url, &of, &exact),
            1,
            "writer {nth}, {events} events"
        );
    }
    for (id, least) in cohorts.iter().zip([1, 100, 1_000_000]) {
        let wanted = done.iter().filter(|events| **events >= least).count();
        until("a cohort is right", || {
            let cohort = well(
                &service.url,
                &of,
                Method::GET,
                &format!("cohorts/{id}/"),
                None,
            );
            cohort["is_calculating"] == false && cohort["count"] == wanted
        });
    }
    assert!(service.stop());
}

fn until_there(directory: &Path) -> PathBuf {
    let mut found = None;
    until("Postgres runs", || {
        found = postmaster(directory);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn replicas_share_the_work_and_free_the_cohorts_of_one_that_is_killed() {
    let directory = TempDir::new().unwrap();
    let postgres = database(directory.path());
    let at = At::Url(postgres.url());
    let of = at.project();
    let start = || Service::start(&at, &["--freshness", "1"]);
    let mut replicas = vec![start(), start(), start()];
    for round in 0..10_u128 {
        let batch = (0..100)
            .map(|nth| event(&format!("p{nth}"), round << 32 | nth))
            .collect();
        assert!(sent(&replicas[0].url, &of, &batch));
    }
    let cohorts: Vec<(i64, usize)> = (0..60)
        .map(|nth| {
            let (url, least) = (&replicas[nth % 3].url, nth % 20);
            let body = json!({"name": format!("c{nth}"), "filters": often(least.max(1))});
            let made = well(url, &of, Method::POST, "cohorts/", Some(&body));
            (made["id"].as_i64().unwrap(), least)
        })
        .collect();
    for nth in 0..12_usize {
        thread::sleep(Duration::from_millis(chance(nth as u64, 400)));
        let body = json!({"filters": often((nth % 20).max(1))});
        let path = format!("cohorts/{}/", cohorts[nth % 20].0);
        well(
            &replicas[(nth + 1) % 3].url,
            &of,
            Method::PATCH,
            &path,
            Some(&body),
        );
        let place = nth % 3;
        replicas.remove(place).kill();
        replicas.insert(place, start());
    }
    // Within 30 seconds of the last kill, without anybody's hand.
    let took = until("all cohorts are calculated", || {
        cohorts.iter().all(|(id, least)| {
            let cohort = well(
                &replicas[0].url,
                &of,
                Method::GET,
                &format!("cohorts/{id}/"),
                None,
            );
            let wanted = if *least <= 10 { 100 } else { 0 };
            cohort["is_calculating"] == false
                && cohort["count"] == wanted
                && cohort["errors_calculating"] == 0
        })
    });
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_cohort_that_takes_for_ever_delays_no_other_of_a_thousand() {
    const COHORTS: usize = 1_000;
    let directory = TempDir::new().unwrap();
    let at = At::Directory(directory.path().to_owned());
    let of = at.project();
    let service = Service::start(&at, &[]);
    let long = "ab".repeat(15_000);
    for round in 0..40_u128 {
        let people: serde_json::Value = (0..20)
            .map(|nth| {
                let mut event = event(&format!("p{}", round * 20 + nth), round << 32 | nth);
                event["properties"]["$set"] = json!({"long": format!("{long}{round}-{nth}")});
                event
            })
            .collect();
        assert!(sent(&service.url, &of, &people));
    }
    let patterns: Vec<String> = (0..1_000)
        .map(|nth| {
            format!(
                "[a-m]{{2}}[^a-z]{{{}}}[n-z]{{{}}}",
                nth % 40 + 3,
                nth / 40 + 1
            )
        })
        .collect();
    let poison = json!({"properties": {"type": "AND", "values": [
        {"type": "person", "key": "long", "operator": "regex", "value": patterns}]}});
    let make = |filters: &serde_json::Value| {
        let body = json!({"name": "c", "filters": filters});
        let made = well(&service.url, &of, Method::POST, "cohorts/", Some(&body));
        made["id"].as_i64().unwrap()
    };
    let show = |id: i64| {
        well(
            &service.url,
            &of,
            Method::GET,
            &format!("cohorts/{id}/"),
            None,
        )
    };
    let poisonous = make(&poison);
    for nth in 1..COHORTS {
        make(&often(nth % 3 + 1));
    }
    until("all but one are calculated", || {
        let path = format!("cohorts/?limit={COHORTS}");
        let list = well(&service.url, &of, Method::GET, &path, None);
        let cohorts = list["results"].as_array().unwrap();
        assert_eq!(cohorts.len(), COHORTS);
        let calculated = cohorts
            .iter()
            .filter(|one| !one["last_calculation"].is_null());
        calculated.count() == COHORTS - 1
    });
    let still = show(poisonous);
    assert_eq!(
        still["is_calculating"], true,
        "it did not take long enough to be of any harm: {still}"
    );
}
