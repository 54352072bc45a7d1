//! Receivers that fail, hang or mislead, and what the service does then.

use std::sync::LazyLock;
use std::time::Duration;

use cohorts_server::Server;
use serde_json::json;

use super::receiver::{Receiver, Reply};
use super::{World, changes, sending};
use crate::harness::Project;

/// A server that pauses a webhook soon.
static IMPATIENT: LazyLock<Server> = LazyLock::new(|| sending(Duration::from_millis(300)));

#[test]
fn a_failed_message_is_sent_again_with_its_id() {
    let replies = [500, 404, 299].map(Reply::Status);
    let (world, receiver) = (World::new(), Receiver::new(replies));
    let webhook = world.webhook(&receiver);
    world.add(["a"]);
    let attempts = [receiver.next(), receiver.next(), receiver.next()];
    for attempt in &attempts {
        assert_eq!(attempt.id(), attempts[0].id());
        assert_eq!(attempt.text, attempts[0].text);
        assert!(attempt.is_signed_by(&webhook.secret));
    }
    let deliveries = webhook.deliveries(3);
    let figures = deliveries.iter().map(|delivery| {
        let number = |name: &str| delivery[name].as_i64();
        (
            number("attempt"),
            number("response_status"),
            number("changes"),
        )
    });
    let expected = [(1, 500), (2, 404), (3, 299)]
        .map(|(attempt, status)| (Some(attempt), Some(status), Some(1)));
    assert_eq!(figures.collect::<Vec<_>>(), expected);
    assert_eq!(deliveries[0]["status"], "failed");
    assert_eq!(deliveries[2]["status"], "delivered");
    let state = webhook.when(|state| state["failing_since"].is_null());
    assert_eq!(state["next_attempt_at"], json!(null));
    world.add(["b"]);
    let next = receiver.next();
    assert_eq!(changes(&next), ["+b"]);
    assert_ne!(next.id(), attempts[0].id());
}

#[test]
fn redirects_are_not_followed() {
    let target = Receiver::new([]);
    let receiver = Receiver::new([Reply::Redirect(target.url())]);
    let world = World::new();
    let webhook = world.webhook(&receiver);
    world.add(["a"]);
    assert_eq!(receiver.next().id(), receiver.next().id());
    let deliveries = webhook.deliveries(2);
    assert_eq!(deliveries[0]["response_status"], 302);
    let error = deliveries[0]["error"].as_str().expect("an error");
    assert!(error.contains("Redirects are not followed"), "{error}");
    assert!(target.arrived().is_empty());
}

#[test]
fn a_response_without_end_is_cut() {
    let (world, receiver) = (World::new(), Receiver::new([Reply::Flood]));
    let webhook = world.webhook(&receiver);
    world.add(["a"]);
    receiver.next();
    let deliveries = webhook.deliveries(1);
    assert_eq!(deliveries[0]["status"], "delivered");
    let body = deliveries[0]["response_body"].as_str().expect("a text");
    assert_eq!(body.len(), 1_024);
}

#[test]
fn a_receiver_that_hangs_delays_no_other() {
    let world = World::new();
    let (slow, other) = (Receiver::new([Reply::Hang]), Receiver::new([]));
    let _slow = world.webhook(&slow);
    let _other = world.webhook(&other);
    world.add(["a"]);
    slow.next();
    for id in ["b", "c"] {
        world.add([id]);
        while !changes(&other.next()).contains(&format!("+{id}")) {}
    }
    // The messages of the slow one have not ended.
    assert!(slow.is_hanging() && slow.arrived().is_empty());
}

#[test]
fn a_receiver_that_fails_for_too_long_is_paused() {
    let world = World::on(&IMPATIENT);
    let receiver = Receiver::new((0..1_000).map(|_| Reply::Status(500)));
    let webhook = world.webhook(&receiver);
    world.add(["a"]);
    let state = webhook.when(|state| state["enabled"] == false);
    assert_eq!(state["paused_reason"], "failing");
    let detail = state["paused_detail"].as_str().expect("a text");
    assert!(detail.contains("The receiver answered 500."), "{detail}");
    let log = world.project.get("webhooks/activity/").json();
    assert_eq!(log["results"][0]["activity"], "paused");
    assert_eq!(log["results"][0]["user"]["is_system"], true);
    let failed = receiver.arrived();
    let receiver = Receiver::new([]);
    let state = webhook.change(json!({"enabled": true, "url": receiver.url()}));
    assert_eq!(state["paused_reason"], json!(null));
    let message = receiver.next();
    assert_eq!(
        (changes(&message), message.id()),
        (vec!["+a".to_owned()], failed[0].id())
    );
}

#[test]
fn a_webhook_stops_when_its_key_is_revoked() {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let admin = world.project.server.data().admin();
    let known: Vec<String> = admin
        .list_keys()
        .expect("keys")
        .into_iter()
        .map(|key| key.id)
        .collect();
    let other = World {
        project: world.project.with_caller("bob@x.io"),
        cohort: world.cohort,
    };
    let webhook = other.webhook(&receiver);
    let keys = admin.list_keys().expect("keys").into_iter();
    let mut new = keys.filter(|key| key.email == "bob@x.io" && !known.contains(&key.id));
    admin
        .revoke_key(&new.next().expect("a key").id)
        .expect("revoked");
    let webhook = super::Webhook {
        project: &world.project,
        ..webhook
    };
    let state = webhook.when(|state| state["enabled"] == false);
    assert_eq!(state["paused_reason"], "key_revoked");
    world.add(["a"]);
    assert!(receiver.arrived().is_empty());
    // The webhook continues with the key that enables it.
    webhook.change(json!({"enabled": true}));
    assert_eq!(changes(&receiver.next()), ["+a"]);
}

/// The shared server allows no addresses.
#[test]
fn addresses_that_are_not_public_are_not_called() {
    let project = Project::new();
    let receiver = Receiver::new([]);
    let port = receiver.url();
    let port = port.split(':').nth(2).expect("a port");
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "10.0.0.1",
        "127.1",
    ] {
        let body = json!({"url": format!("https://{host}:{port}")});
        let refused = project.post("webhooks/", body);
        refused.is_error(400, "invalid_input", Some("url"));
        assert!(refused.detail().contains("not public"), "{}", refused.text);
    }
    for url in [
        "http://hooks.example.org/",
        "https://ana:pw@hooks.example.org/",
        "ftp://hooks.example.org/",
        "x",
    ] {
        let refused = project.post("webhooks/", json!({"url": url}));
        refused.is_error(400, "invalid_input", Some("url"));
    }
    assert!(receiver.arrived().is_empty());
}
