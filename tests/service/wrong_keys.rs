//! Wrong keys are limited per client. Valid keys of the same client are not affected.

use cohorts_server::{Config, PeerSource, Server};
use reqwest::Method;

use crate::harness::{Answer, key, request_to, send, start};

const LIMIT: u32 = 3;

fn server(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = start(|config| {
        config.wrong_keys_per_minute = LIMIT;
        change(config);
    });
    let admin = server.data().admin();
    let project = admin.create_project("P", "UTC").expect("a project").id;
    let key = key(&server, &[project], &["*"]);
    (server, key)
}

fn list(server: &Server, key: &str, client: &str) -> Answer {
    let call = request_to(server, Method::GET, "/api/projects/@current/cohorts/");
    let call = call.bearer_auth(key).header("x-forwarded-for", client);
    send(&Method::GET, call)
}

fn send_wrong_keys(server: &Server, client: &str) {
    for number in 0..LIMIT {
        let answer = list(server, &format!("phx_{number}"), client);
        answer.is_error(401, "authentication_failed", None);
    }
}

#[test]
fn wrong_keys_of_a_client_are_limited_and_valid_ones_are_not() {
    let (server, valid) = server(|_| {});
    send_wrong_keys(&server, "1.1.1.1");
    // Without a trusted proxy, the header does not make another client.
    let refused = list(&server, "phx_other", "2.2.2.2");
    refused.is_error(429, "throttled", None);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    for _ in 0..2 {
        assert_eq!(list(&server, &valid, "1.1.1.1").status, 200);
    }

    let keys = server.data().admin().list_keys().expect("the keys");
    let id = &keys.first().expect("a key").id;
    server.data().admin().revoke_key(id).expect("a revocation");
    list(&server, &valid, "1.1.1.1").is_error(429, "throttled", None);
    server.stop().expect("a clean end");
}

#[test]
fn clients_behind_a_trusted_proxy_have_their_own_limits() {
    let (server, valid) = server(|config| config.peer_source = PeerSource::Proxy);
    send_wrong_keys(&server, "1.1.1.1");
    list(&server, "phx_other", "1.1.1.1").is_error(429, "throttled", None);
    // The proxy appends the address of the client to those that the client has sent.
    list(&server, "phx_other", "2.2.2.2, 1.1.1.1").is_error(429, "throttled", None);
    list(&server, "phx_other", "2.2.2.2").is_error(401, "authentication_failed", None);
    assert_eq!(list(&server, &valid, "1.1.1.1").status, 200);
    server.stop().expect("a clean end");
}
