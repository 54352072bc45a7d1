//! HEAD of each operation that GET calls: the status and the headers of GET, without a body.

use reqwest::Method;

use crate::contract::isolation::Objects;
use crate::contract::spec;
use crate::harness::{Project, request};

#[test]
fn head_has_the_status_and_the_headers_of_get() {
    let project = Project::new();
    let objects = Objects::create(&project);
    let gets = spec::operations()
        .into_iter()
        .filter(|one| one.method == "get");
    for operation in gets {
        for path in objects.paths(&operation, &project) {
            let ask = |method: Method| {
                let call = request(method, &path).bearer_auth(&project.key);
                call.send().expect("a response")
            };
            let head = ask(Method::HEAD);
            if operation.writes() {
                assert_eq!(head.status().as_u16(), 405, "{path}");
                assert_eq!(head.headers()["allow"], "GET, OPTIONS", "{path}");
            } else {
                let get = ask(Method::GET);
                let seen = |response: &reqwest::blocking::Response| {
                    let content_type = response.headers().get("content-type");
                    (response.status(), content_type.cloned())
                };
                assert_eq!(seen(&head), seen(&get), "{path}");
            }
            assert_eq!(head.text().expect("a text"), "", "{path}");
        }
    }
}
