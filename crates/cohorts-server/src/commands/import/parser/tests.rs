//! Lines of each vendor, as its documentation or its export shows them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;

fn parser() -> LineParser {
    LineParser::new(ProjectId(1))
}

fn items(parser: &mut LineParser, line: &Value) -> Vec<Item> {
    let items = parser.parse(line.to_string().as_bytes());
    items.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The only item of a line.
fn item(line: &Value) -> Item {
    let mut items = items(&mut parser(), line);
    assert_eq!(items.len(), 1, "{line}");
    items.remove(0)
}

fn refusal(line: &str) -> String {
    let items = parser().parse(line.as_bytes());
    items
        .map(|items| panic!("{line}: {items:?}"))
        .unwrap_err()
        .to_string()
}

fn properties(item: &Item) -> Value {
    serde_json::from_str(&item.properties.0).unwrap()
}

/// The ids, the time and the person properties of an item.
fn summary(item: &Item) -> String {
    let mut text = format!("{} of {}", item.event, item.distinct_id);
    if let Some(other) = item.other_id() {
        let _ = write!(text, " and {other}");
    }
    let _ = write!(
        text,
        " at {}",
        item.timestamp.format("%Y-%m-%dT%H:%M:%S%.f")
    );
    for (name, value) in item.set_members() {
        let _ = write!(text, ", {name} {value}");
    }
    text
}

#[test]
fn an_event_of_each_vendor_has_its_time_its_persons_and_their_properties() {
    let segment = |fields: Value| {
        let mut call = json!({"messageId": "ajs-1", "userId": "u1", "anonymousId": "a1",
            "timestamp": "2020-01-01T00:00:00.500Z", "receivedAt": "2020-01-02T00:00:00Z"});
        call.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        call
    };
    for (line, expected) in [
        (
            json!({"event": "Signed up", "properties": {"time": 1_577_836_800, "distinct_id": "mp1", "$insert_id": "i1"}}),
            "Signed up of mp1 at 2020-01-01T00:00:00",
        ),
        (
            json!({"event": "Signed up", "properties": {"time": 1_577_836_800_250_i64, "distinct_id": 7,
                "$distinct_id_before_identity": "anonymous-7"}}),
            "Signed up of 7 and anonymous-7 at 2020-01-01T00:00:00.250",
        ),
        (
            json!({"event": "$identify", "properties": {"time": 1_577_836_800, "distinct_id": "x",
                "$identified_id": "u1", "$anon_id": "a1"}}),
            "$identify of u1 and a1 at 2020-01-01T00:00:00",
        ),
        (
            json!({"event": "x", "properties": {"time": 1_577_836_800, "distinct_id": "u1", "$user_id": "u1",
                "$device_id": "d1"}}),
            "x of u1 and $device:d1 at 2020-01-01T00:00:00",
        ),
        (
            json!({"event_type": "watch", "event_time": "2020-01-01 00:00:00.000000", "user_id": "u1", "device_id": "d1",
                "user_properties": {"plan": "pro"}, "event_properties": {"a": 1}}),
            r#"watch of u1 and d1 at 2020-01-01T00:00:00, plan "pro""#,
        ),
        (
            json!({"event_type": "watch", "event_time": "2020-01-01 00:00:00", "user_id": null, "device_id": "d1",
                "user_properties": r#"{"plan": "pro"}"#}),
            r#"watch of d1 at 2020-01-01T00:00:00, plan "pro""#,
        ),
        (
            segment(
                json!({"type": "track", "event": "Paid", "context": {"traits": {"plan": "pro"}}}),
            ),
            r#"Paid of u1 and a1 at 2020-01-01T00:00:00.500, plan "pro""#,
        ),
        (
            segment(
                json!({"type": "identify", "traits": {"plan": "pro"}, "context": {"traits": {"plan": "free", "b": 1}}}),
            ),
            r#"$identify of u1 and a1 at 2020-01-01T00:00:00.500, b 1, plan "pro""#,
        ),
        (
            segment(json!({"type": "alias", "previousId": "old"})),
            "$create_alias of u1 and old at 2020-01-01T00:00:00.500",
        ),
        (
            segment(json!({"type": "group", "groupId": "g", "traits": {"plan": "pro"}})),
            "$groupidentify of u1 and a1 at 2020-01-01T00:00:00.500",
        ),
        (
            segment(json!({"type": "page", "userId": null, "timestamp": null})),
            "$pageview of a1 at 2020-01-02T00:00:00",
        ),
        (
            segment(json!({"type": "screen", "anonymousId": null})),
            "$screen of u1 at 2020-01-01T00:00:00.500",
        ),
        (
            json!({"event": "x", "distinct_id": "p1", "timestamp": "2020-01-01T00:00:00Z", "person_properties":
                r#"{"plan": "pro"}"#, "properties": r#"{"$set": {"b": 1}}"#}),
            r#"x of p1 at 2020-01-01T00:00:00, b 1, plan "pro""#,
        ),
        (
            json!({"event": "x", "distinct_id": "p1", "timestamp": 1_577_836_800, "properties": ""}),
            "x of p1 at 2020-01-01T00:00:00",
        ),
    ] {
        assert_eq!(summary(&item(&line)), expected, "{line}");
    }
}

#[test]
fn persons_have_all_ids_their_properties_and_their_uuid() {
    let uuid = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4e05";
    for (line, expected) in [
        (
            json!({"distinct_id": "p1", "person_id": uuid, "properties": r#"{"a": 1}"#, "created_at": 1_577_836_800}),
            &[" of p1 at 2020-01-01T00:00:00, a 1"][..],
        ),
        (
            json!({"distinct_id": "p1", "id": uuid, "created_at": "2020-01-01 00:00:00.000000", "is_deleted": 0}),
            &[" of p1 at 2020-01-01T00:00:00"],
        ),
        (
            json!({"type": "person", "id": uuid, "uuid": uuid, "name": "n", "distinct_ids": ["p1", "p2", "p3"],
                "properties": {"a": 1}, "created_at": "2020-01-01T00:00:00Z", "is_identified": true}),
            &[
                " of p1 at 2020-01-01T00:00:00, a 1",
                " of p2 and p1 at 2020-01-01T00:00:00",
                " of p3 and p1 at 2020-01-01T00:00:00",
            ],
        ),
        (
            json!({"distinct_ids": r#"["p1","p2"]"#, "person_id": uuid, "created_at": 1_577_836_800_000_i64}),
            &[
                " of p1 at 2020-01-01T00:00:00",
                " of p2 and p1 at 2020-01-01T00:00:00",
            ],
        ),
    ] {
        let items = items(&mut parser(), &line);
        let summaries: Vec<String> = items.iter().map(summary).collect();
        assert_eq!(summaries, expected, "{line}");
        let person = Some(uuid.parse().unwrap());
        assert!(
            items.iter().all(|item| item.exported_person == person),
            "{line}"
        );
        let uuids: HashSet<Uuid> = items.iter().map(|item| item.uuid).collect();
        assert_eq!(uuids.len(), items.len());
    }
    let profile = json!({"$distinct_id": 4, "$properties": {"$created": "2008-12-12T11:20:47", "$email": "a@x.io"}});
    let profile = item(&profile);
    assert_eq!(
        summary(&profile),
        r#" of 4 at 2008-12-12T11:20:47, $created "2008-12-12T11:20:47", $email "a@x.io", email "a@x.io""#
    );
    assert!(profile.exported_person.is_some());
}

#[test]
fn deleted_persons_are_skipped_and_counted_once() {
    let mut parser = parser();
    for (id, deleted) in [("a", json!(true)), ("b", json!(1)), ("c", json!("true"))] {
        let line = json!({"distinct_id": id, "person_id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4e04", "is_deleted": deleted});
        assert_eq!(items(&mut parser, &line), []);
    }
    let numbered = json!({"distinct_id": "d", "person_id": 7, "is_deleted": 1});
    assert_eq!(items(&mut parser, &numbered), []);
    assert_eq!(parser.deleted_persons(), 2);
}

#[test]
fn the_uuid_comes_from_the_id_of_the_vendor() {
    let uuid = |line: Value| item(&line).uuid;
    let mixpanel = |insert_id: &str, time: i64| {
        uuid(
            json!({"event": "x", "properties": {"time": time, "distinct_id": "a", "$insert_id": insert_id}}),
        )
    };
    assert_eq!(
        mixpanel("i1", 1_577_836_800),
        mixpanel("i1", 1_577_836_800_000)
    );
    assert_ne!(mixpanel("i1", 1_577_836_800), mixpanel("i2", 1_577_836_800));
    let segment = |message: &str, sent: &str| {
        uuid(
            json!({"type": "track", "event": "x", "userId": "a", "messageId": message, "sentAt": sent}),
        )
    };
    assert_eq!(
        segment("m1", "2020-01-01T00:00:00Z"),
        segment("m1", "2020-01-01T00:00:01Z")
    );
    assert_ne!(
        segment("m1", "2020-01-01T00:00:00Z"),
        segment("m2", "2020-01-01T00:00:00Z")
    );
    let amplitude = |id: Option<&str>, insert_id: &str| {
        uuid(
            json!({"event_type": "x", "user_id": "a", "event_time": "2020-01-01", "uuid": id, "$insert_id": insert_id}),
        )
    };
    let sent = "b7c8e7f1-1b2a-11ea-9f4c-0a1b2c3d4e5f";
    assert_eq!(amplitude(Some(sent), "i").to_string(), sent);
    assert_eq!(amplitude(None, "i"), amplitude(None, "i"));
    assert_ne!(amplitude(None, "i"), amplitude(None, "j"));
    // Without an id, the line is the identity.
    let line = |id: u32| uuid(json!({"event": "x", "properties": {"time": 1, "distinct_id": id}}));
    assert_eq!(line(1), line(1));
    assert_ne!(line(1), line(2));
}

#[test]
fn derived_uuids_ascend_with_the_time() {
    let uuid = |line: Value| item(&line).uuid;
    let captured =
        |time: &str, id: &str| uuid(json!({"event": "x", "distinct_id": id, "timestamp": time}));
    let mixpanel = |time: i64| {
        uuid(
            json!({"event": "x", "properties": {"time": time, "distinct_id": "a", "$insert_id": "i"}}),
        )
    };
    let amplitude = |time: &str| {
        uuid(json!({"event_type": "x", "user_id": "a", "event_time": time, "$insert_id": "i"}))
    };
    for second in 0..50 {
        let (earlier, later) = (
            format!("2026-03-01 12:00:{second:02}.001"),
            format!("2026-03-01 12:00:{second:02}.002"),
        );
        for id in ["a", "b", "c"] {
            assert!(captured(&earlier, "a") < captured(&later, id));
        }
        assert!(mixpanel(1_577_836_800 + second) < mixpanel(1_577_836_801 + second));
        assert!(amplitude(&earlier) < amplitude(&later));
    }
    let time = "2026-03-01 12:00:00";
    assert_ne!(captured(time, "a"), captured(time, "b"));
    assert_eq!(captured(time, "a"), captured(time, "a"));
    assert_eq!(captured(time, "a").get_version_num(), 8);
    // A time before 1970 has no place in a uuid.
    assert_eq!(captured("1969-12-31", "a").get_version_num(), 5);
}

#[test]
fn other_fields_become_properties_with_the_names_of_posthog() {
    let amplitude = item(
        &json!({"event_type": "x", "user_id": "u", "event_time": "2020-01-01", "country": "France",
        "platform": "iOS", "session_id": 5, "paying": null, "data": {"a": 1}, "event_properties": {"b": 2}}),
    );
    let expected = json!({"b": 2, "$geoip_country_name": "France", "$amplitude_platform": "iOS",
        "$amplitude_session_id": 5, "$amplitude_user_id": "u"});
    assert_eq!(properties(&amplitude), expected);

    let page = item(
        &json!({"type": "page", "userId": "u", "timestamp": "2020-01-01", "name": "Home",
        "properties": {"url": "https://x.io/a", "path": "/a"}, "context": {"ip": "1.2.3.4", "campaign": {"name": "c"}}}),
    );
    let stored = properties(&page);
    for (name, value) in [
        ("$current_url", "https://x.io/a"),
        ("url", "https://x.io/a"),
        ("$pathname", "/a"),
        ("name", "Home"),
        ("$ip", "1.2.3.4"),
        ("utm_campaign", "c"),
    ] {
        assert_eq!(stored[name], value, "{name}");
    }
    let group = item(
        &json!({"type": "group", "userId": "u", "timestamp": "2020-01-01", "groupId": "g",
        "traits": {"plan": "pro"}}),
    );
    assert_eq!(properties(&group)["$group_key"], "g");
    assert_eq!(properties(&group)["$group_set"], json!({"plan": "pro"}));
}

#[test]
fn ids_are_linked_by_the_first_event_that_has_both() {
    let mut parser = parser();
    let mut line = |user: &str, device: &str| {
        let line = json!({"event_type": "x", "event_time": "2020-01-01", "user_id": user, "device_id": device});
        let item = items(&mut parser, &line).remove(0);
        item.other_id().map(str::to_owned)
    };
    assert_eq!(line("u1", "d1").as_deref(), Some("d1"));
    assert_eq!(line("u1", "d1"), None);
    assert_eq!(line("u1", "d2").as_deref(), Some("d2"));
    // SDKs send such ids when they have none.
    assert_eq!(line("u1", "00000000-0000-0000-0000-000000000000"), None);
    assert_eq!(line("u1", "null"), None);
    assert_eq!(line("u3", "u3"), None);
}

#[test]
fn times_are_dates_seconds_and_milliseconds() {
    for timestamp in [
        json!(1_577_836_800),
        json!(1_577_836_800_000_i64),
        json!("1577836800"),
        json!("1577836800000"),
        json!(1_577_836_800.0),
        json!("2020-01-01 00:00:00 UTC"),
        json!("2020-01-01T02:00:00+0200"),
        json!("Wed, 01 Jan 2020 00:00:00 GMT"),
    ] {
        for line in [
            json!({"event": "x", "distinct_id": "a", "timestamp": timestamp}),
            json!({"distinct_id": "a", "person_id": 7, "created_at": timestamp}),
            json!({"event": "x", "properties": {"distinct_id": "a", "time": timestamp}}),
        ] {
            let time = item(&line).timestamp.to_rfc3339();
            assert_eq!(time, "2020-01-01T00:00:00+00:00", "{line}");
        }
    }
}

#[test]
fn a_line_without_a_readable_time_is_refused() {
    for (line, part) in [
        (
            r#"{"event":"x","distinct_id":"a"}"#,
            "`timestamp` is missing",
        ),
        (
            r#"{"event":"x","distinct_id":"a","offset":5}"#,
            "`timestamp` is missing",
        ),
        (
            r#"{"event":"x","distinct_id":"a","timestamp":"yesterday"}"#,
            "the time `yesterday` is in no known format",
        ),
        (
            r#"{"event":"x","properties":{"distinct_id":"a","time":"soon"}}"#,
            "`time`: the time `soon` is in no known format",
        ),
        (r#"{"event_type":"x","user_id":"a"}"#, "`event_time`"),
        (
            r#"{"event_type":"x","user_id":"a","event_time":[1]}"#,
            "`event_time`: the time `a list or an object` is in no known format",
        ),
        (
            r#"{"type":"track","event":"x","userId":"a"}"#,
            "`timestamp`",
        ),
        (
            r#"{"type":"track","event":"x","userId":"a","timestamp":"?","sentAt":"2020-01-01"}"#,
            "`timestamp`: the time `?` is in no known format",
        ),
        (
            r#"{"distinct_id":"a","person_id":"0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4e05"}"#,
            "`created_at` is missing",
        ),
        (
            r#"{"$distinct_id":"a","$properties":{}}"#,
            "`$created`, `$last_seen`",
        ),
        (
            r#"{"event":"x","distinct_id":"a","timestamp":"2999-01-01T00:00:00Z"}"#,
            "in the future",
        ),
    ] {
        let refusal = refusal(line);
        assert!(refusal.contains(part), "{line}: {refusal}");
    }
}

#[test]
fn a_line_of_no_format_is_refused_with_the_reason() {
    for (line, part) in [
        ("distinct_id,email", "not a JSON object"),
        (r#"[{"event":"x"}]"#, "one object per line"),
        ("{", "it is not valid JSON"),
        (r#"{"name":"x"}"#, "`event` is missing"),
        (r#"{"event":"x"}"#, "`distinct_id` is missing"),
        (
            r#"{"event":7,"distinct_id":"a","timestamp":"2020-01-01","x":[1}"#,
            "not valid JSON",
        ),
        (
            r#"{"event":"x","properties":{"time":1}}"#,
            "`properties.distinct_id` is missing",
        ),
        (
            r#"{"event_type":"x","event_time":"2020-01-01"}"#,
            "`user_id` or `device_id`",
        ),
        (
            r#"{"type":"alias","userId":"a","timestamp":"2020-01-01"}"#,
            "`previousId` is missing",
        ),
        (
            r#"{"event":"x","distinct_id":"a","timestamp":"2020-01-01","properties":"a=1"}"#,
            "`properties` is a text that is not an object",
        ),
        (
            r#"{"event_type":"x","user_id":"a","event_time":"2020-01-01","user_properties":7}"#,
            "`user_properties` is not an object",
        ),
        (
            r#"{"distinct_ids":[],"created_at":1}"#,
            "`distinct_ids` is empty",
        ),
        (
            r#"{"distinct_ids":[{"a":1}],"created_at":1}"#,
            "`distinct_ids` contains",
        ),
    ] {
        let refusal = refusal(line);
        assert!(refusal.contains(part), "{line}: {refusal}");
    }
    let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(MAX_ITEM_BYTES));
    assert!(refusal(&long).contains("longer than"));
    assert!(parser().parse(b"{\"event\":\"\xff\"}").is_err());
}

#[test]
fn the_formats_of_a_file_are_counted() {
    let mut parser = parser();
    assert_eq!(parser.format_message(), None);
    for line in [
        json!({"event": "x", "properties": {"time": 1, "distinct_id": "a"}}),
        json!({"event": "y", "properties": {"time": 1, "distinct_id": "a"}}),
        json!({"event": "y", "distinct_id": "a", "timestamp": 1, "team_id": 7}),
    ] {
        items(&mut parser, &line);
    }
    assert_eq!(
        parser.format_message().as_deref(),
        Some("format: PostHog events (1 line), Mixpanel events (2 lines)")
    );
    parser.start_file();
    assert_eq!(parser.format_message(), None);
}

/// Python's `json.dumps` writes these.
#[test]
fn numbers_that_json_does_not_have_are_null() {
    let line = r#"{"event":"x","distinct_id":"a","timestamp":"2020-01-01","properties":{"n":NaN,"i":-Infinity}}"#;
    let items = parser().parse(line.as_bytes()).unwrap();
    assert_eq!(items[0].properties.0, r#"{"n":null,"i":null}"#);
    for (text, expected) in [(r#"{\"n\":NaN}"#, r#"{"n":null}"#), ("[ ]", "{}")] {
        let line = format!(
            r#"{{"event":"x","distinct_id":"a","timestamp":"2020-01-01","properties":"{text}"}}"#
        );
        let items = parser().parse(line.as_bytes()).unwrap();
        assert_eq!(items[0].properties.0, expected, "{text}");
    }
}
