//! The reference libraries of Standard Webhooks verify the messages of this service, if they are installed.

use std::process::Command;

use serde_json::{Value, json};

use super::sdk::{outcome, script};
use crate::webhooks::{Received, Receiver, World};

/// A message as an argument of a library.
fn argument(message: &Received, secret: &str) -> Value {
    json!({"secret": secret, "headers": message.headers, "body": message.text})
}

/// Verifies good messages and changed ones.
fn verify(need: &str, mut library: Command) {
    let (world, receiver) = (World::new(), Receiver::new([]));
    let webhook = world.webhook(&receiver);
    world.add(["ä"]);
    let first = receiver.next();
    let rotated = webhook.rotate();
    world.add(["b"]);
    let second = receiver.next();
    let mut changed = first.clone();
    changed.text += " ";
    let messages = json!([
        argument(&first, &webhook.secret),
        argument(&second, &webhook.secret),
        argument(&second, &rotated),
        argument(&first, &rotated),
        argument(&changed, &webhook.secret),
    ]);
    library.arg(messages.to_string());
    let Some(output) = outcome(need, library) else {
        return;
    };
    let verified: Value = serde_json::from_str(&output).expect("a line of JSON");
    let expected = json!([first.body, second.body, second.body, null, null]);
    assert_eq!(verified, expected);
}

#[test]
fn python_library_verifies_messages() {
    let python = std::env::var("COHORTS_TEST_PYTHON").unwrap_or("python3".to_owned());
    let mut library = Command::new(python);
    library.arg(script("clients/webhooks.py"));
    verify("python", library);
}

#[test]
fn node_library_verifies_messages() {
    let mut library = Command::new("node");
    library.arg(script("sdk/webhooks.mjs"));
    verify("node", library);
}
