//! The messages of webhooks: their changes, their order, their ids and their signatures.

use serde_json::json;

use super::receiver::{Receiver, Reply};
use super::{World, changes};
use crate::harness::rows;

#[test]
fn changes_arrive_signed_and_in_the_form_of_the_feed() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    world.add(["before"]);
    let webhook = world.webhook(&receiver);
    world.add(["a", "b"]);
    let message = receiver.next();
    // The change before the webhook is not sent.
    assert_eq!(changes(&message), ["+a", "+b"]);
    assert!(message.is_signed_by(&webhook.secret));
    assert_eq!(message.signatures().len(), 1);
    assert_eq!(message.headers["content-type"], "application/json");
    let (body, data) = (&message.body, &message.body["data"]);
    assert_eq!(body["type"], "cohort.changes");
    assert_eq!(body["timestamp"].as_str().map(str::len), Some(27));
    assert_eq!(data["webhook_id"], webhook.id);
    assert_eq!(data["project_id"], world.project.id);
    let path = format!("cohorts/{}/changes/", world.cohort);
    let deliveries = webhook.deliveries(1);
    let from = deliveries[0]["from_cursor"].as_str().expect("a cursor");
    let feed = world.project.get(&format!("{path}?cursor={from}")).json();
    assert_eq!(feed["results"], data["results"]);
    let cursor = data["cursor"].as_str().expect("a cursor");
    let after = world.project.get(&format!("{path}?cursor={cursor}")).json();
    assert!(rows(&after).is_empty(), "{after}");
}

#[test]
fn messages_arrive_in_order_and_lose_no_change() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let _webhook = world.webhook(&receiver);
    let ids: Vec<String> = (0..12).map(|nth| format!("p{nth:02}")).collect();
    for (nth, id) in ids.iter().enumerate() {
        if nth % 3 == 0 {
            receiver.reply(Reply::Status(503));
        }
        world.add([id]);
    }
    let mut arrived = Vec::new();
    let mut last_id = String::new();
    while arrived.len() < ids.len() {
        let message = receiver.next();
        // The receiver ignores a message that it knows.
        if message.id() != last_id {
            let ids = changes(&message).into_iter();
            arrived.extend(ids.map(|id| id.trim_start_matches('+').to_owned()));
            message.id().clone_into(&mut last_id);
        }
    }
    assert_eq!(arrived, ids);
}

#[test]
fn a_message_has_at_most_a_thousand_changes() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let _webhook = world.webhook(&receiver);
    let ids: Vec<String> = (0..1_200).map(|nth| format!("p{nth:04}")).collect();
    let options = [("create_people", "true")];
    let uploaded = world
        .project
        .upload(Some(world.cohort), ids.join("\n"), &options);
    assert_eq!(uploaded.status, 200, "{}", uploaded.text);
    let messages = [receiver.next(), receiver.next()];
    let counts = messages.each_ref().map(|message| changes(message).len());
    assert_eq!(counts, [1_000, 200]);
    assert_ne!(messages[0].id(), messages[1].id());
    let mut arrived = messages.each_ref().map(changes).concat();
    arrived.sort();
    let expected: Vec<String> = ids.iter().map(|id| format!("+{id}")).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn a_message_has_at_most_a_mebibyte() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let _webhook = world.webhook(&receiver);
    // Persons with ten long ids each.
    let long = |person: usize, nth: usize| format!("{person:03}-{nth:02}-{}", "x".repeat(190));
    for person in 0..60 {
        let first = long(person, 0);
        let aliases = (0..10).map(|nth| {
            json!({"event": "$create_alias", "distinct_id": first, "properties": {"alias": long(person, nth)}})
        });
        world.project.capture(aliases.collect());
    }
    let ids: Vec<String> = (0..60).map(|person| long(person, 0)).collect();
    let upload = |content: String| {
        let answer = world.project.upload(Some(world.cohort), content, &[]);
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    upload(ids.join("\n"));
    let message = receiver.next();
    assert!(message.text.len() <= 1 << 20, "{}", message.text.len());
}

#[test]
fn a_rotated_secret_signs_beside_the_old_one() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let webhook = world.webhook(&receiver);
    let new = webhook.rotate();
    assert_ne!(new, webhook.secret);
    world.add(["a"]);
    let message = receiver.next();
    assert_eq!(message.signatures().len(), 2);
    assert!(message.is_signed_by(&new) && message.is_signed_by(&webhook.secret));
    // A second rotation ends the first secret.
    webhook.rotate();
    world.add(["b"]);
    let message = receiver.next();
    assert!(message.is_signed_by(&new) && !message.is_signed_by(&webhook.secret));
}

#[test]
fn a_paused_webhook_keeps_its_position() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let webhook = world.webhook(&receiver);
    webhook.change(json!({"enabled": false}));
    world.add(["a"]);
    world.add(["b"]);
    webhook.change(json!({"enabled": true}));
    // Both changes are in one message, so none was sent before.
    assert_eq!(changes(&receiver.next()), ["+a", "+b"]);
}

#[test]
fn a_replay_sends_changes_again_under_new_ids() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let webhook = world.webhook(&receiver);
    world.add(["a"]);
    let first = receiver.next();
    world.add(["b"]);
    let second = receiver.next();
    let deliveries = webhook.deliveries(2);
    let replay = |from: &str| {
        let answer = world
            .project
            .post(&webhook.path("replay/"), json!({"from": from}));
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    replay(deliveries[1]["from_cursor"].as_str().expect("a cursor"));
    let again = receiver.next();
    assert_eq!(changes(&again), ["+b"]);
    replay("2020-01-01T00:00:00Z");
    let all = receiver.next();
    assert_eq!(changes(&all), ["+a", "+b"]);
    let ids = [&first, &second, &again, &all].map(|message| message.id().to_owned());
    for (nth, id) in ids.iter().enumerate() {
        assert!(!ids[..nth].contains(id), "{ids:?}");
    }
    for wrong in ["yesterday", "AAAA", ""] {
        let refused = world
            .project
            .post(&webhook.path("replay/"), json!({"from": wrong}));
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
}

#[test]
fn other_cohorts_continue_from_the_position() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let webhook = world.webhook(&receiver);
    webhook.change(json!({"enabled": false}));
    world.add(["a"]);
    webhook.change(json!({"cohort_ids": null, "enabled": true}));
    assert_eq!(changes(&receiver.next()), ["+a"]);
    let other = world.project.cohort(json!({"is_static": true}));
    let path = format!("cohorts/{other}/add_persons_to_static_cohort/");
    let body = json!({"person_ids": [world.project.person("a")]});
    assert_eq!(world.project.patch(&path, body).status, 200);
    let message = receiver.next();
    assert_eq!(message.body["data"]["results"][0]["cohort_id"], other);
}

#[test]
fn a_test_message_is_sent_to_a_paused_webhook_too() {
    let (world, receiver) = (World::new(), Receiver::new([Reply::Status(418)]));
    let webhook = world.webhook(&receiver);
    webhook.change(json!({"enabled": false}));
    let test = || {
        let answer = world.project.post(&webhook.path("test/"), json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let failed = test();
    assert_eq!(
        (&failed["status"], &failed["response_status"]),
        (&json!("failed"), &json!(418))
    );
    let delivered = test();
    assert_eq!(delivered["status"], "delivered");
    assert_eq!(delivered["error"], json!(null));
    let message = receiver.next();
    assert_eq!(message.body["type"], "webhook.test");
    assert!(message.is_signed_by(&webhook.secret));
    assert_eq!(webhook.deliveries(2)[1], delivered);
    assert_eq!(webhook.state()["failing_since"], json!(null));
}
