//! The times of events: formats, the sender's clock, and times that cannot be used.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, find_person, metric, request, send};

/// Sends a body unchanged, as a browser does.
fn send_raw(path: &str, body: &Value) {
    let call = request(Method::POST, path).header("content-type", "text/plain");
    let answer = send(&Method::POST, call.body(body.to_string()));
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// When the person was created: the time of the first event.
fn created_at(project: &Project, id: &str) -> DateTime<Utc> {
    let person = find_person(project, id).unwrap_or_else(|| panic!("no person {id}"));
    let time = person["created_at"].as_str().expect("a time");
    time.parse().expect("a time")
}

/// Asserts that the event of this person has the current time, but for `offset`.
fn assert_about_now(project: &Project, id: &str, offset: TimeDelta) {
    let difference = created_at(project, id) - (Utc::now() + offset);
    assert!(
        difference.abs() < TimeDelta::minutes(2),
        "{id}: {difference}"
    );
}

fn replaced(reason: &str) -> u64 {
    metric(&format!(
        r#"cohorts_timestamps_replaced_total{{reason="{reason}"}}"#
    ))
}

#[test]
fn every_common_format_of_a_time_is_read() {
    let project = Project::new();
    let second = [
        json!("2020-09-13T14:26:40Z"),
        json!("2020-09-13t14:26:40z"),
        json!(" 2020-09-13T14:26:40Z "),
        json!("2020-09-13T14:26:40"),
        json!("2020-09-13 14:26:40"),
        json!("2020-09-13T16:26:40+0200"),
        json!("2020-09-13T16:26:40+02:00"),
        json!("2020-09-13T16:26:40+02"),
        json!("2020-09-13 16:26:40 +0200"),
        json!("2020-09-13T10:56:40-03:30"),
        json!("20200913T142640Z"),
        json!("20200913T162640+0200"),
        json!("2020-09-13T14:26:40,000Z"),
        json!("2020-09-13T14:26:40.0000000Z"),
        json!("2020-09-13 14:26:40 UTC"),
        json!("2020-09-13 14:26:40.000 UTC"),
        json!("2020-09-13 14:26:40 +0000 UTC"),
        json!("2020-09-13 16:26:40.000 +0200 CEST m=+1.5"),
        json!("2020-09-13T16:26:40+02:00[Europe/Berlin]"),
        json!("Sun, 13 Sep 2020 14:26:40 GMT"),
        json!("Sun, 13 Sep 2020 16:26:40 +0200"),
        json!("13 Sep 2020 14:26:40 +0000"),
        json!("13/09/2020 14:26:40"),
        json!("13-09-2020 14:26:40"),
        json!("2020/09/13 14:26:40"),
        json!("September 13, 2020 14:26:40"),
        json!(1_600_007_200),
        json!("1600007200"),
        json!(1_600_007_200.0),
        json!("1600007200.0"),
        json!(1_600_007_200_000_i64),
        json!("1600007200000"),
        json!(1_600_007_200_000_000_i64),
        json!("1600007200000000000"),
    ];
    let others = [
        (json!("2020-09-13T14:26Z"), "2020-09-13T14:26:00Z"),
        (json!("2020-09-13 14:26"), "2020-09-13T14:26:00Z"),
        (json!("13/09/2020 14:26"), "2020-09-13T14:26:00Z"),
        (
            json!("2020-09-13T14:26:40,125Z"),
            "2020-09-13T14:26:40.125Z",
        ),
        (json!(1_600_007_200.125), "2020-09-13T14:26:40.125Z"),
        (json!("1600007200.125"), "2020-09-13T14:26:40.125Z"),
        (json!(1_600_007_200_125_i64), "2020-09-13T14:26:40.125Z"),
        (json!("2020-09-13"), "2020-09-13T00:00:00Z"),
        (json!("13/09/2020"), "2020-09-13T00:00:00Z"),
        (json!("20200913"), "2020-09-13T00:00:00Z"),
        (json!(20_200_913), "2020-09-13T00:00:00Z"),
        (json!(-86_400), "1969-12-31T00:00:00Z"),
    ];
    let second = second.map(|value| (value, "2020-09-13T14:26:40Z"));
    let times: Vec<(Value, &str)> = second.into_iter().chain(others).collect();
    let event = |(nth, (time, _)): (usize, &(Value, &str))| json!({"event": "t", "distinct_id": format!("t{nth}"), "timestamp": time});
    project.capture(times.iter().enumerate().map(event).collect());
    for (nth, (time, expected)) in times.iter().enumerate() {
        let expected: DateTime<Utc> = expected.parse().expect("a time");
        assert_eq!(created_at(&project, &format!("t{nth}")), expected, "{time}");
    }
}

#[test]
fn times_that_cannot_be_used_are_replaced_and_counted_by_reason() {
    let project = Project::new();
    let in_a_week = (Utc::now() + TimeDelta::days(7)).to_rfc3339();
    let reasons = ["unreadable", "out_of_range", "future"];
    let before = reasons.map(replaced);
    let times = [
        json!("soon"),
        json!(""),
        json!("09/13/2020"),
        json!("2020-13-13T00:00:00Z"),
        json!("-7d"),
        json!(true),
        json!({"seconds": 1_600_007_200}),
        json!([2020, 9, 13]),
        json!("-000044-03-15T12:00:00Z"),
        json!(in_a_week),
        json!("9999-12-31"),
    ];
    let event = |(nth, time): (usize, &Value)| json!({"event": "t", "distinct_id": format!("t{nth}"), "timestamp": time});
    project.capture(times.iter().enumerate().map(event).collect());
    for nth in 0..times.len() {
        assert_about_now(&project, &format!("t{nth}"), TimeDelta::zero());
    }
    // Other tests use the same service.
    let added = [8, 1, 2];
    for ((reason, before), added) in reasons.into_iter().zip(before).zip(added) {
        assert!(replaced(reason) >= before + added, "{reason}");
    }
}

#[test]
fn the_time_in_the_query_is_the_time_of_sending() {
    let project = Project::new();
    let ahead = Utc::now() + TimeDelta::hours(10);
    let event = |id: &str| json!({"api_key": project.token, "event": "t", "distinct_id": id, "timestamp": ahead.to_rfc3339()});
    for path in ["/e/", "/capture/", "/i/v0/e/", "/track/", "/batch/"] {
        let id = path.replace('/', "-");
        send_raw(
            &format!("{path}?_={}&ver=1.2", ahead.timestamp_millis()),
            &event(&id),
        );
        assert_about_now(&project, &id, TimeDelta::zero());
    }
    // The body takes precedence over the query.
    let mut both = event("both");
    both["sent_at"] = json!((ahead + TimeDelta::hours(3)).to_rfc3339());
    send_raw(&format!("/e/?_={}", ahead.timestamp_millis()), &both);
    assert_about_now(&project, "both", TimeDelta::hours(-3));
    // A value that cannot be read does not.
    both["sent_at"] = json!("soon");
    both["distinct_id"] = json!("unreadable");
    send_raw(&format!("/e/?_={}", ahead.timestamp_millis()), &both);
    assert_about_now(&project, "unreadable", TimeDelta::zero());
    // Other numbers than milliseconds are no time.
    for (nth, value) in ["abc", "0.5", "17", ""].iter().enumerate() {
        let id = format!("n{nth}");
        send_raw(&format!("/e/?_={value}"), &event(&id));
        assert_about_now(&project, &id, TimeDelta::hours(10));
    }
}

#[test]
fn the_time_of_sending_is_read_in_every_format() {
    let project = Project::new();
    let ahead = Utc::now() + TimeDelta::hours(10);
    let time = ahead - TimeDelta::hours(3);
    let formats = [
        json!(ahead.timestamp()),
        json!(ahead.timestamp_millis().to_string()),
        json!(ahead.to_rfc2822()),
        json!(ahead.format("%Y-%m-%d %H:%M:%S UTC").to_string()),
    ];
    for (nth, sent_at) in formats.iter().enumerate() {
        let id = format!("s{nth}");
        let event = json!({"event": "t", "distinct_id": id, "timestamp": time.to_rfc3339()});
        send_raw(
            "/batch/",
            &json!({"api_key": project.token, "batch": [event], "sent_at": sent_at}),
        );
        assert_about_now(&project, &id, TimeDelta::hours(-3));
    }
}

#[test]
fn created_at_is_the_time_of_sending_on_the_analytics_path_only() {
    let project = Project::new();
    let time = "2020-09-13T14:26:40Z";
    let event = |id: &str| json!({"event": "t", "distinct_id": id, "timestamp": time});
    let mut single = event("single");
    single["api_key"] = json!(project.token);
    single["created_at"] = json!(time);
    send_raw("/capture/", &single);
    let batch =
        |id: &str| json!({"api_key": project.token, "batch": [event(id)], "created_at": time});
    send_raw("/batch/", &batch("batch"));
    let expected: DateTime<Utc> = time.parse().expect("a time");
    assert_eq!(created_at(&project, "single"), expected);
    assert_eq!(created_at(&project, "batch"), expected);
    let call = request(Method::POST, "/i/v1/analytics/events").bearer_auth(&project.token);
    let answer = send(&Method::POST, call.json(&batch("analytics")));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_about_now(&project, "analytics", TimeDelta::zero());
}

#[test]
fn the_age_of_an_event_is_read_from_any_number() {
    let project = Project::new();
    let before = replaced("unreadable");
    let ages = [json!(7_200_000), json!("7200000"), json!(7_200_000.5)];
    for (nth, age) in ages.iter().enumerate() {
        let id = format!("a{nth}");
        project.capture(json!([{"event": "t", "distinct_id": id, "offset": age}]));
        assert_about_now(&project, &id, TimeDelta::hours(-2));
    }
    project.capture(json!([{"event": "t", "distinct_id": "bad", "offset": "two hours"}]));
    assert_about_now(&project, "bad", TimeDelta::zero());
    assert!(replaced("unreadable") > before);
}
