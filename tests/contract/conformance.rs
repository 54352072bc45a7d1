//! Each operation of the contract with each of its statuses. The harness checks the bodies.
//!
//! The table must equal the documented operations and statuses; there are no exceptions.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cohorts_server::{RateLimit, Server};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::json;

use crate::changes;
use crate::cohorts::two_editors;
use crate::contract::expired;
use crate::contract::spec::{self, Operation};
use crate::harness::{Answer, Project, any_of, key, person, request, request_to, send, start};
use crate::{retries, uploads};

mod capture;
mod catalogue;
mod console;
mod webhooks;

/// An operation, a status, and a request that causes this status.
type Row = (&'static str, u16, fn(&Project) -> Answer);

const ROWS: &[Row] = &[
    ("cohorts_list", 200, |p| p.get("cohorts/")),
    ("cohorts_list", 400, |p| p.get("cohorts/?created_by_id=ana")),
    ("cohorts_list", 404, |p| {
        in_unknown_project(p, Method::GET, "cohorts/")
    }),
    ("cohorts_create", 201, |p| p.post("cohorts/", json!({}))),
    ("cohorts_create", 400, |p| {
        p.post("cohorts/", json!({"deleted": "banana"}))
    }),
    ("cohorts_create", 404, |p| {
        in_unknown_project(p, Method::POST, "cohorts/")
    }),
    ("cohorts_create", 413, |p| {
        too_large(p, Method::POST, "cohorts/")
    }),
    ("cohorts_create", 415, |p| {
        as_xml(p, Method::POST, "cohorts/")
    }),
    ("cohorts_preview", 200, |p| {
        p.post(
            "cohorts/preview/",
            json!({"filters": any_of(json!([person("a", "exact", 1)]))}),
        )
    }),
    ("cohorts_preview", 400, |p| {
        p.post("cohorts/preview/", json!({}))
    }),
    ("cohorts_preview", 404, |p| {
        in_unknown_project(p, Method::POST, "cohorts/preview/")
    }),
    ("cohorts_preview", 413, |p| {
        too_large(p, Method::POST, "cohorts/preview/")
    }),
    ("cohorts_preview", 415, |p| {
        as_xml(p, Method::POST, "cohorts/preview/")
    }),
    ("cohorts_explain_create", 200, |p| {
        p.persons([("d1", json!({}))]);
        p.post(
            "cohorts/explain/",
            json!({"filters": any_of(json!([person("a", "exact", 1)])), "distinct_id": "d1"}),
        )
    }),
    ("cohorts_explain_create", 400, |p| {
        p.post("cohorts/explain/", json!({}))
    }),
    ("cohorts_explain_create", 404, |p| {
        p.post(
            "cohorts/explain/",
            json!({"filters": any_of(json!([person("a", "exact", 1)])), "distinct_id": "d0"}),
        )
    }),
    ("cohorts_explain_create", 413, |p| {
        too_large(p, Method::POST, "cohorts/explain/")
    }),
    ("cohorts_explain_create", 415, |p| {
        as_xml(p, Method::POST, "cohorts/explain/")
    }),
    ("cohorts_explain_retrieve", 200, |p| {
        p.persons([("d1", json!({}))]);
        p.get(&of_cohort(p, "explain/?distinct_id=d1"))
    }),
    ("cohorts_explain_retrieve", 400, |p| {
        p.get(&of_cohort(p, "explain/"))
    }),
    ("cohorts_explain_retrieve", 404, |p| {
        p.get(&of_cohort(p, "explain/?distinct_id=d0"))
    }),
    ("cohorts_memberships", 200, |p| {
        p.post("cohorts/memberships/", json!({"distinct_ids": ["d1"]}))
    }),
    ("cohorts_memberships", 400, |p| {
        p.post("cohorts/memberships/", json!({}))
    }),
    ("cohorts_memberships", 404, |p| {
        in_unknown_project(p, Method::POST, "cohorts/memberships/")
    }),
    ("cohorts_memberships", 413, |p| {
        too_large(p, Method::POST, "cohorts/memberships/")
    }),
    ("cohorts_memberships", 415, |p| {
        as_xml(p, Method::POST, "cohorts/memberships/")
    }),
    ("cohorts_overlap", 200, |p| {
        let id = p.cohort(json!({"name": "a"}));
        p.post("cohorts/overlap/", json!({"cohort_ids": [id]}))
    }),
    ("cohorts_overlap", 400, |p| {
        p.post("cohorts/overlap/", json!({"cohort_ids": [999_999_999]}))
    }),
    ("cohorts_overlap", 404, |p| {
        in_unknown_project(p, Method::POST, "cohorts/overlap/")
    }),
    ("cohorts_overlap", 413, |p| {
        too_large(p, Method::POST, "cohorts/overlap/")
    }),
    ("cohorts_overlap", 415, |p| {
        as_xml(p, Method::POST, "cohorts/overlap/")
    }),
    ("cohorts_compare", 200, |p| {
        p.post(&of_cohort(p, "compare/"), json!({"keys": ["plan"]}))
    }),
    ("cohorts_compare", 400, |p| {
        p.post(&of_cohort(p, "compare/"), json!({"with": 999_999_999}))
    }),
    ("cohorts_compare", 404, |p| {
        p.post("cohorts/999999999/compare/", json!({}))
    }),
    ("cohorts_compare", 413, |p| {
        too_large(p, Method::POST, &of_cohort(p, "compare/"))
    }),
    ("cohorts_compare", 415, |p| {
        as_xml(p, Method::POST, &of_cohort(p, "compare/"))
    }),
    ("cohorts_all_activity_retrieve", 400, |p| {
        p.get("cohorts/activity/?limit=0")
    }),
    ("cohorts_all_activity_retrieve", 404, |p| {
        in_unknown_project(p, Method::GET, "cohorts/activity/")
    }),
    ("cohorts_all_activity_retrieve", 200, |p| {
        p.get("cohorts/activity/")
    }),
    ("cohorts_all_changes", 200, |p| p.get("cohorts/changes/")),
    ("cohorts_all_changes", 400, |p| {
        p.get("cohorts/changes/?limit=0")
    }),
    ("cohorts_all_changes", 404, |p| {
        in_unknown_project(p, Method::GET, "cohorts/changes/")
    }),
    ("cohorts_all_changes", 410, |_| {
        changes::expired("cohorts/changes/")
    }),
    ("cohorts_all_changes_sse", 200, |p| {
        p.get("cohorts/changes.sse")
    }),
    ("cohorts_all_changes_sse", 400, |p| {
        p.get("cohorts/changes.sse?from=start")
    }),
    ("cohorts_all_changes_sse", 404, |p| {
        in_unknown_project(p, Method::GET, "cohorts/changes.sse")
    }),
    ("cohorts_all_changes_sse", 410, |_| {
        changes::expired("cohorts/changes.sse")
    }),
    ("cohorts_changes", 200, |p| p.get(&of_cohort(p, "changes/"))),
    ("cohorts_changes", 400, |p| {
        p.get(&of_cohort(p, "changes/?cursor=x"))
    }),
    ("cohorts_changes", 404, |p| p.get("cohorts/999999/changes/")),
    ("cohorts_changes", 410, |_| {
        changes::expired("cohorts/{id}/changes/")
    }),
    ("cohorts_changes_sse", 200, |p| {
        p.get(&of_cohort(p, "changes.sse"))
    }),
    ("cohorts_changes_sse", 400, |p| {
        p.get(&of_cohort(p, "changes.sse?from=x"))
    }),
    ("cohorts_changes_sse", 404, |p| {
        p.get("cohorts/999999/changes.sse")
    }),
    ("cohorts_changes_sse", 410, |_| {
        changes::expired("cohorts/{id}/changes.sse")
    }),
    ("cohorts_retrieve", 200, |p| p.get(&of_cohort(p, ""))),
    ("cohorts_retrieve", 404, |p| p.get("cohorts/999999/")),
    ("cohorts_partial_update", 200, |p| {
        p.patch(&of_cohort(p, ""), json!({"name": "b"}))
    }),
    ("cohorts_partial_update", 400, |p| {
        p.patch(&of_cohort(p, ""), json!({"description": null}))
    }),
    ("cohorts_partial_update", 404, |p| {
        p.patch("cohorts/999999/", json!({}))
    }),
    ("cohorts_partial_update", 412, |p| stale(p, Method::PATCH)),
    ("cohorts_partial_update", 413, |p| {
        too_large(p, Method::PATCH, "cohorts/1/")
    }),
    ("cohorts_partial_update", 415, |p| {
        as_xml(p, Method::PATCH, "cohorts/1/")
    }),
    ("cohorts_destroy", 404, |p| {
        in_unknown_project(p, Method::DELETE, "cohorts/1/")
    }),
    ("cohorts_destroy", 405, |p| {
        p.ask(Method::DELETE, "cohorts/1/", None)
    }),
    ("cohorts_activity_retrieve", 400, |p| {
        p.get("cohorts/1/activity/?page=x")
    }),
    ("cohorts_activity_retrieve", 404, |p| {
        in_unknown_project(p, Method::GET, "cohorts/1/activity/")
    }),
    ("cohorts_activity_retrieve", 200, |p| {
        p.get(&of_cohort(p, "activity/"))
    }),
    ("cohorts_update", 200, |p| {
        p.ask(Method::PUT, &of_cohort(p, ""), Some(json!({"name": "b"})))
    }),
    ("cohorts_update", 400, |p| {
        p.ask(
            Method::PUT,
            &of_cohort(p, ""),
            Some(json!({"is_static": 7})),
        )
    }),
    ("cohorts_update", 404, |p| {
        p.ask(Method::PUT, "cohorts/999999/", None)
    }),
    ("cohorts_update", 412, |p| stale(p, Method::PUT)),
    ("cohorts_update", 413, |p| {
        too_large(p, Method::PUT, "cohorts/1/")
    }),
    ("cohorts_update", 415, |p| {
        as_xml(p, Method::PUT, "cohorts/1/")
    }),
    ("cohorts_duplicate_as_static_cohort_retrieve", 200, |p| {
        p.get(&of_cohort(p, "duplicate_as_static_cohort/"))
    }),
    ("cohorts_duplicate_as_static_cohort_retrieve", 400, |p| {
        p.get(&of_static(p, "duplicate_as_static_cohort/"))
    }),
    ("cohorts_duplicate_as_static_cohort_retrieve", 404, |p| {
        p.get("cohorts/999999/duplicate_as_static_cohort/")
    }),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        200,
        |p| {
            p.persons([("d1", json!({}))]);
            p.patch(
                &of_static(p, "add_persons_to_static_cohort/"),
                json!({"person_ids": [p.person("d1")]}),
            )
        },
    ),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        400,
        |p| p.patch(&of_cohort(p, "add_persons_to_static_cohort/"), json!({})),
    ),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        404,
        |p| p.patch("cohorts/999999/add_persons_to_static_cohort/", json!({})),
    ),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        413,
        |p| too_large(p, Method::PATCH, ADD),
    ),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        415,
        |p| as_xml(p, Method::PATCH, ADD),
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        200,
        |p| {
            p.persons([("d1", json!({}))]);
            p.patch(
                &of_static(p, "remove_person_from_static_cohort/"),
                json!({"person_id": p.person("d1")}),
            )
        },
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        400,
        |p| {
            p.patch(
                &of_static(p, "remove_person_from_static_cohort/"),
                json!({}),
            )
        },
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        404,
        |p| {
            p.patch(
                "cohorts/999999/remove_person_from_static_cohort/",
                json!({}),
            )
        },
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        413,
        |p| too_large(p, Method::PATCH, REMOVE),
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        415,
        |p| as_xml(p, Method::PATCH, REMOVE),
    ),
    ("cohorts_calculation_history_retrieve", 200, |p| {
        p.get(&of_cohort(p, "calculation_history/"))
    }),
    ("cohorts_calculation_history_retrieve", 400, |p| {
        p.get(&of_cohort(p, "calculation_history/?limit=0"))
    }),
    ("cohorts_calculation_history_retrieve", 404, |p| {
        p.get("cohorts/999999/calculation_history/")
    }),
    ("cohorts_used_in_retrieve", 200, |p| {
        p.get(&of_cohort(p, "used_in/"))
    }),
    ("cohorts_used_in_retrieve", 404, |p| {
        p.get("cohorts/999999/used_in/")
    }),
    ("cohorts_sizes", 200, |p| p.get(&of_cohort(p, "sizes/"))),
    ("cohorts_sizes", 400, |p| {
        p.get(&of_cohort(p, "sizes/?interval=year"))
    }),
    ("cohorts_sizes", 404, |p| p.get("cohorts/999999/sizes/")),
    ("cohorts_persons_retrieve", 410, |_| {
        expired::members("persons/")
    }),
    ("cohorts_persons_csv", 410, |_| {
        expired::members("persons.csv")
    }),
    ("cohorts_persons_ndjson", 410, |_| {
        expired::members("persons.ndjson")
    }),
    ("cohorts_persons_retrieve", 200, |p| {
        p.get(&of_cohort(p, "persons/"))
    }),
    ("cohorts_persons_retrieve", 400, |p| {
        p.get(&of_cohort(p, "persons/?limit=many"))
    }),
    ("cohorts_persons_retrieve", 404, |p| {
        p.get("cohorts/999999/persons/")
    }),
    ("cohorts_persons_csv", 200, |p| {
        p.get(&of_cohort(p, "persons.csv"))
    }),
    ("cohorts_persons_csv", 400, |p| {
        p.get(&of_cohort(p, "persons.csv?bom=perhaps"))
    }),
    ("cohorts_persons_csv", 404, |p| {
        p.get("cohorts/999999/persons.csv")
    }),
    ("cohorts_persons_ndjson", 200, |p| {
        p.get(&of_cohort(p, "persons.ndjson"))
    }),
    ("cohorts_persons_ndjson", 400, |p| {
        p.get(&of_cohort(p, "persons.ndjson?limit=many"))
    }),
    ("cohorts_persons_ndjson", 404, |p| {
        p.get("cohorts/999999/persons.ndjson")
    }),
    ("cohorts_uploads", 200, |p| p.get(&of_static(p, "uploads/"))),
    ("cohorts_uploads", 400, |p| {
        p.get(&of_static(p, "uploads/?limit=none"))
    }),
    ("cohorts_uploads", 404, |p| p.get("cohorts/999999/uploads/")),
    ("cohorts_upload", 200, |p| {
        let (id, cohort) = uploads::create(p, "d1\n", &[]);
        p.get(&format!("cohorts/{id}/uploads/{}/", cohort["upload"]["id"]))
    }),
    ("cohorts_upload", 404, |p| {
        p.get(&of_static(p, "uploads/1/"))
    }),
    ("persons_list", 200, |p| p.get("persons/")),
    ("persons_list", 400, |p| p.get("persons/?cursor=x")),
    ("persons_list", 404, |p| p.get("persons/?format=xml")),
    ("persons_csv", 200, |p| p.get("persons.csv")),
    ("persons_csv", 400, |p| p.get("persons.csv?cursor=x")),
    ("persons_csv", 404, |p| {
        in_unknown_project(p, Method::GET, "persons.csv")
    }),
    ("persons_ndjson", 200, |p| p.get("persons.ndjson")),
    ("persons_ndjson", 400, |p| p.get("persons.ndjson?cursor=x")),
    ("persons_ndjson", 404, |p| {
        in_unknown_project(p, Method::GET, "persons.ndjson")
    }),
    ("persons_bulk_delete_create", 202, |p| {
        p.post(BULK_DELETE, json!({"distinct_ids": ["unknown"]}))
    }),
    ("persons_bulk_delete_create", 400, |p| {
        p.post(BULK_DELETE, json!({}))
    }),
    ("persons_bulk_delete_create", 404, |p| {
        in_unknown_project(p, Method::POST, BULK_DELETE)
    }),
    ("persons_bulk_delete_create", 413, |p| {
        too_large(p, Method::POST, BULK_DELETE)
    }),
    ("persons_bulk_delete_create", 415, |p| {
        as_xml(p, Method::POST, BULK_DELETE)
    }),
    ("persons_cohorts_retrieve", 200, |p| {
        p.persons([("d1", json!({}))]);
        p.get(&format!("persons/cohorts/?person_id={}", p.person("d1")))
    }),
    ("persons_cohorts_retrieve", 400, |p| {
        p.get("persons/cohorts/")
    }),
    ("persons_cohorts_retrieve", 404, |p| {
        p.get(&format!(
            "persons/cohorts/?person_id={}",
            spec::UNKNOWN_PERSON
        ))
    }),
    ("persons_retrieve", 200, |p| {
        p.persons([("d1", json!({}))]);
        p.get(&format!("persons/{}/", p.person("d1")))
    }),
    ("persons_retrieve", 404, |p| p.get("persons/d1/")),
    ("persons_destroy", 204, |p| {
        p.persons([("d2", json!({}))]);
        let path = format!("persons/{}/", p.person("d2"));
        p.ask(Method::DELETE, &path, None)
    }),
    ("persons_destroy", 400, |p| {
        p.ask(Method::DELETE, "persons/d2/?keep_person=true", None)
    }),
    ("persons_update_property_create", 202, |p| {
        p.post(
            &of_person(p, "update_property/"),
            json!({"key": "a", "value": 1}),
        )
    }),
    ("persons_update_property_create", 400, |p| {
        p.post("persons/d1/update_property/", json!({"key": "a"}))
    }),
    ("persons_update_property_create", 404, |p| {
        p.post(
            "persons/d1/update_property/",
            json!({"key": "a", "value": 1}),
        )
    }),
    ("persons_update_property_create", 413, |p| {
        too_large(p, Method::POST, "persons/d1/update_property/")
    }),
    ("persons_update_property_create", 415, |p| {
        as_xml(p, Method::POST, "persons/d1/update_property/")
    }),
    ("persons_delete_property_create", 201, |p| {
        p.post(&of_person(p, "delete_property/"), json!({"$unset": "a"}))
    }),
    ("persons_delete_property_create", 400, |p| {
        p.post("persons/d1/delete_property/", json!({}))
    }),
    ("persons_delete_property_create", 404, |p| {
        p.post("persons/d1/delete_property/", json!({"$unset": "a"}))
    }),
    ("persons_delete_property_create", 413, |p| {
        too_large(p, Method::POST, "persons/d1/delete_property/")
    }),
    ("persons_delete_property_create", 415, |p| {
        as_xml(p, Method::POST, "persons/d1/delete_property/")
    }),
    ("persons_destroy", 404, |p| {
        p.ask(Method::DELETE, "persons/d2/", None)
    }),
    ("projects_list", 200, |p| get_path(p, "/api/projects/")),
    ("projects_retrieve", 200, |p| p.get("")),
    ("projects_retrieve", 404, |p| {
        in_unknown_project(p, Method::GET, "")
    }),
    ("projects_list", 404, |p| {
        get_path(p, "/api/projects/?format=csv")
    }),
    ("users_retrieve", 404, |p| {
        get_path(p, "/api/users/@me/?format=csv")
    }),
    ("users_retrieve", 200, |p| get_path(p, "/api/users/@me/")),
    ("actions_list", 200, |p| p.get("actions/")),
    ("actions_list", 404, |p| {
        in_unknown_project(p, Method::GET, "actions/")
    }),
    ("actions_create", 201, |p| p.post("actions/", json!({}))),
    ("actions_create", 400, |p| {
        p.post("actions/", json!({"steps": [{"selector": "a"}]}))
    }),
    ("actions_create", 404, |p| {
        in_unknown_project(p, Method::POST, "actions/")
    }),
    ("actions_create", 413, |p| {
        too_large(p, Method::POST, "actions/")
    }),
    ("actions_create", 415, |p| {
        as_xml(p, Method::POST, "actions/")
    }),
    ("actions_retrieve", 200, |p| p.get(&of_action(p))),
    ("actions_retrieve", 404, |p| p.get("actions/999999/")),
    ("actions_partial_update", 200, |p| {
        p.patch(&of_action(p), json!({"name": "b"}))
    }),
    ("actions_partial_update", 400, |p| {
        p.patch(&of_action(p), json!({"deleted": 7}))
    }),
    ("actions_partial_update", 404, |p| {
        p.patch("actions/999999/", json!({}))
    }),
    ("actions_partial_update", 413, |p| {
        too_large(p, Method::PATCH, "actions/1/")
    }),
    ("actions_partial_update", 415, |p| {
        as_xml(p, Method::PATCH, "actions/1/")
    }),
];

const ADD: &str = "cohorts/1/add_persons_to_static_cohort/";
const REMOVE: &str = "cohorts/1/remove_person_from_static_cohort/";

const BULK_DELETE: &str = "persons/bulk_delete/";

/// A path below that of a person.
fn of_person(project: &Project, rest: &str) -> String {
    project.persons([("d1", json!({}))]);
    format!("persons/{}/{rest}", project.person("d1"))
}

fn of_static(project: &Project, rest: &str) -> String {
    let id = project.cohort(json!({"is_static": true}));
    format!("cohorts/{id}/{rest}")
}

fn of_cohort(project: &Project, rest: &str) -> String {
    format!("cohorts/{}/{rest}", project.cohort(json!({"name": "a"})))
}

/// The path of a new action below the project's.
fn of_action(project: &Project) -> String {
    let action = project.post("actions/", json!({"steps": [{"event": "x"}]}));
    format!("actions/{}/", action.json()["id"])
}

fn get_path(project: &Project, path: &str) -> Answer {
    let call = request(Method::GET, path).bearer_auth(&project.key);
    send(&Method::GET, call)
}

/// Statuses that every operation with a key has for the same reason.
const SHARED: [u16; 6] = [401, 403, 406, 409, 422, 429];

/// A server that answers one request per key and hour.
static STRICT: LazyLock<Server> = LazyLock::new(|| {
    let limit = RateLimit {
        per_minute: 1,
        per_hour: 1,
    };
    start(|config| {
        config.rate_limit = Some(limit);
    })
});

/// Causes one of these statuses on an operation.
fn shared_status(operation: &Operation, status: u16) -> Answer {
    let method = operation.method();
    let project = Project::new();
    let address = operation.address(project.id, 1);
    let call = |server: &Server, project: i64| {
        request_to(server, method.clone(), &operation.address(project, 1))
    };
    match status {
        401 => send(&method, call(project.server, project.id)),
        406 => {
            let call = call(project.server, project.id).bearer_auth(&project.key);
            send(&method, call.header(ACCEPT, "image/png"))
        }
        409 => retries::running(project.server, &project.key, &address),
        422 => retries::reused(project.server, &project.key, &address),
        403 => {
            let key = project.key_with(&["survey:read"]);
            send(&method, call(project.server, project.id).bearer_auth(key))
        }
        _ => {
            let admin = STRICT.data().admin();
            let project = admin.create_project("Strict", "UTC").expect("a project").id;
            let key = key(&STRICT, &[project], &["*"]);
            send(&method, call(&STRICT, project).bearer_auth(&key));
            send(&method, call(&STRICT, project).bearer_auth(&key))
        }
    }
}

/// A request to a project that does not exist.
fn in_unknown_project(project: &Project, method: Method, rest: &str) -> Answer {
    let path = format!("/api/projects/999999999/{rest}");
    send(
        &method,
        request(method.clone(), &path).bearer_auth(&project.key),
    )
}

fn too_large(project: &Project, method: Method, rest: &str) -> Answer {
    let body = json!({"name": "a".repeat(5 << 20)});
    project.ask(method, rest, Some(body))
}

/// An edit of a definition that the cohort does not have.
fn stale(project: &Project, method: Method) -> Answer {
    let path = of_cohort(project, "");
    two_editors::edit(project, method, &path, &["\"d0\""], json!({"name": "b"}))
}

fn as_xml(project: &Project, method: Method, rest: &str) -> Answer {
    let call = request(method.clone(), &project.path(rest)).bearer_auth(&project.key);
    send(
        &method,
        call.header(CONTENT_TYPE, "application/xml").body("<a/>"),
    )
}

fn rows() -> impl Iterator<Item = &'static Row> {
    let others = [
        capture::ROWS,
        catalogue::ROWS,
        console::ROWS,
        webhooks::ROWS,
    ];
    ROWS.iter().chain(others.into_iter().flatten())
}

#[test]
fn every_documented_status_occurs() {
    let project = Project::new();
    for (operation, status, cause) in rows() {
        let answer = cause(&project);
        assert_eq!(answer.status, *status, "{operation}: {}", answer.text);
    }
}

#[test]
fn every_operation_with_a_key_has_the_shared_statuses() {
    for operation in spec::operations() {
        let documented = operation.statuses();
        let has_key = operation.scopes().is_some();
        for status in SHARED
            .into_iter()
            .filter(|status| documented.contains(status) && has_key)
        {
            let answer = shared_status(&operation, status);
            assert_eq!(answer.status, status, "{}: {}", operation.id, answer.text);
        }
    }
}

#[test]
fn rows_are_the_operations_and_statuses_of_the_contract() {
    let documented = spec::operations().into_iter().flat_map(|operation| {
        let statuses = operation.statuses().into_iter();
        statuses.map(move |status| (operation.id, status))
    });
    let documented: BTreeSet<(&str, u16)> = documented.collect();
    let listed: BTreeSet<(&str, u16)> = rows().map(|(id, status, _)| (*id, *status)).collect();
    assert_eq!(listed.len(), rows().count(), "a row occurs twice");
    let guarded = spec::operations()
        .into_iter()
        .filter(|one| one.scopes().is_some());
    // An operation without a JSON response accepts any `Accept` header.
    let has = |one: &spec::Operation, status| match status {
        406 => one.answers_json(),
        409 | 422 => one.method() == Method::POST,
        _ => true,
    };
    let shared = guarded.flat_map(|one| {
        let statuses = SHARED.into_iter().filter(move |status| has(&one, *status));
        statuses.map(move |status| (one.id, status))
    });
    let rows: BTreeSet<(&str, u16)> = listed.into_iter().chain(shared).collect();
    assert_eq!(rows, documented);
}
