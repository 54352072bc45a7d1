//! Look-ups by one process of persons that another process merges and deletes.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Location, Service, ask, database, sent, until};

#[test]
fn look_ups_follow_the_merges_and_deletions_of_another_process() {
    let at = Location::Url(database());
    let access = at.project();
    let (one, other) = (Service::start(&at, &[]), Service::start(&at, &[]));
    let batch = json!(["a", "b", "c"].map(|id| json!({"event": "x", "distinct_id": id})));
    assert!(sent(&other.url, &access, &batch));
    let persons = format!("/api/projects/{}/persons/", access.project);
    let read = |path: &str| ask(&one.url, &access, Method::GET, path, None).unwrap();
    let uuid = |id: &str| {
        let page = read(&format!("{persons}?distinct_id={id}")).1;
        page["results"][0]["id"].as_str().unwrap().to_owned()
    };
    let merged = format!("person_id={}", uuid("b"));
    let deleted = uuid("c");
    let status = |person: &str| read(&format!("{persons}cohorts/?{person}")).0;
    // The second look-up needs no statement.
    for person in [&merged, "distinct_id=c"].repeat(2) {
        assert_eq!(status(person), 200, "{person}");
    }
    let alias = json!([
        {"event": "$create_alias", "distinct_id": "a", "properties": {"alias": "b"}}
    ]);
    assert!(sent(&other.url, &access, &alias));
    // The first look-up that sees the merge or the deletion reads the members again, and later ones do not.
    let is_gone = |person: &str| {
        until("the person is gone", || status(person) == 404);
        assert_eq!(status(person), 404, "{person}");
    };
    is_gone(&merged);
    assert_eq!(status("distinct_id=b"), 200);
    assert_eq!(status("distinct_id=c"), 200);
    let path = format!("{persons}{deleted}/");
    let answer = ask(&other.url, &access, Method::DELETE, &path, None);
    assert_eq!(answer.map(|(status, _)| status), Some(204));
    is_gone("distinct_id=c");
}
