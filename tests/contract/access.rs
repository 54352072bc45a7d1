//! Each operation of the contract with no key, a wrong key, a key that lacks a scope, and a key of another project. And the
//! data that each operation discloses, by which its scopes are chosen.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::contract::spec::{self, Operation};
use crate::harness::{Answer, Project, request, send};

/// The most sensitive data in the responses of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Discloses {
    None,
    /// Names, criteria and counts of stored cohorts, and actions.
    Definitions,
    /// Persons and their properties, or counts by which properties can be guessed.
    Persons,
    /// Distinct ids, e-mail addresses and ids of persons.
    IdsAndAddresses,
    /// Names of events.
    EventNames,
    /// Names of properties, and the types of their values.
    PropertyNames,
    Activity,
    /// URLs that receive changes of members.
    Webhooks,
    Project,
    User,
}

use Discloses::{
    Activity, Definitions, EventNames, IdsAndAddresses, Persons, PropertyNames, Webhooks,
};

impl Discloses {
    /// The operation must require at least one of these scopes.
    fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Definitions => &["cohort:read", "cohort:write", "action:read", "action:write"],
            Self::Persons | Self::IdsAndAddresses => &["person:read"],
            Self::EventNames => &["event_definition:read"],
            Self::PropertyNames => &["property_definition:read"],
            Self::Activity => &["activity_log:read"],
            Self::Webhooks => &["webhook:read", "webhook:write"],
            Self::Project => &["project:read"],
            Self::User => &["user:read"],
        }
    }
}

/// The access matrix: the operations, and what each discloses. The `upload` of a changed cohort repeats ids that the caller
/// has sent, so it discloses none. The parameter `cohort` of persons discloses members, so it also requires `cohort:read`: see `members_of_a_cohort_need_the_scope_of_cohorts`.
const DISCLOSURES: [(&str, Discloses); 70] = [
    ("cohorts_list", Definitions),
    ("cohorts_create", Definitions),
    ("cohorts_preview", Persons),
    ("cohorts_explain_create", Persons),
    ("cohorts_explain_retrieve", Persons),
    ("cohorts_memberships", Persons),
    ("cohorts_overlap", Persons),
    ("cohorts_compare", Persons),
    ("cohorts_all_activity_retrieve", Activity),
    ("cohorts_retrieve", Definitions),
    ("cohorts_update", Definitions),
    ("cohorts_partial_update", Definitions),
    ("cohorts_destroy", Discloses::None),
    ("cohorts_activity_retrieve", Activity),
    ("cohorts_duplicate_as_static_cohort_retrieve", Definitions),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        Discloses::None,
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        Discloses::None,
    ),
    ("cohorts_calculation_history_retrieve", Definitions),
    ("cohorts_used_in_retrieve", Definitions),
    ("cohorts_sizes", Definitions),
    ("cohorts_persons_retrieve", Persons),
    ("cohorts_persons_csv", Persons),
    ("cohorts_all_changes", IdsAndAddresses),
    ("cohorts_all_changes_sse", IdsAndAddresses),
    ("cohorts_changes", IdsAndAddresses),
    ("cohorts_changes_sse", IdsAndAddresses),
    ("cohorts_persons_ndjson", Persons),
    ("cohorts_uploads", IdsAndAddresses),
    ("cohorts_upload", IdsAndAddresses),
    ("actions_list", Definitions),
    ("actions_create", Definitions),
    ("actions_retrieve", Definitions),
    ("actions_partial_update", Definitions),
    ("persons_list", Persons),
    ("persons_csv", Persons),
    ("persons_ndjson", Persons),
    ("persons_values_retrieve", Persons),
    ("event_definitions_list", EventNames),
    ("property_definitions_list", PropertyNames),
    ("events_list", Persons),
    ("events_values_retrieve", Persons),
    ("persons_bulk_delete_create", Discloses::None),
    ("persons_cohorts_retrieve", Persons),
    ("persons_retrieve", Persons),
    ("persons_destroy", Discloses::None),
    ("persons_update_property_create", Discloses::None),
    ("persons_delete_property_create", Discloses::None),
    ("webhooks_list", Webhooks),
    ("webhooks_create", Webhooks),
    ("webhooks_activity_retrieve", Activity),
    ("webhooks_retrieve", Webhooks),
    ("webhooks_partial_update", Webhooks),
    ("webhooks_destroy", Discloses::None),
    // The response of a receiver can repeat what it was sent.
    ("webhooks_deliveries", Persons),
    ("webhooks_test", Persons),
    ("webhooks_replay", Webhooks),
    ("webhooks_rotate_secret", Webhooks),
    ("projects_list", Discloses::Project),
    ("projects_retrieve", Discloses::Project),
    ("users_retrieve", Discloses::User),
    // The code is the authentication.
    ("console_session_create", Discloses::None),
    ("capture_batch", Discloses::None),
    ("capture_event", Discloses::None),
    ("capture_browser_event", Discloses::None),
    ("capture_event_v0", Discloses::None),
    ("capture_track", Discloses::None),
    ("capture_analytics", Discloses::None),
    ("flags", Discloses::None),
    ("decide", Discloses::None),
    ("capture_config", Discloses::None),
];

#[test]
fn the_access_matrix_has_every_operation() {
    let listed: BTreeSet<&str> = DISCLOSURES.iter().map(|(id, _)| *id).collect();
    let operations = spec::operations();
    let operations: BTreeSet<&str> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(listed, operations);
}

#[test]
fn every_operation_requires_the_scope_of_the_data_that_it_discloses() {
    for (id, discloses) in DISCLOSURES {
        let (required, scopes) = (spec::operation(id).scopes(), discloses.scopes());
        let required = required.unwrap_or_default();
        let has_scope = scopes.iter().any(|scope| required.contains(scope));
        assert!(
            discloses == Discloses::None || has_scope,
            "{id} discloses {discloses:?} and requires {required:?} instead of one of {scopes:?}"
        );
    }
}

/// The count of a preview alone discloses properties, and an upload lists ids.
#[test]
fn a_key_without_person_read_learns_nothing_of_persons() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    let key = project.key_with(&[
        "cohort:write",
        "action:write",
        "webhook:write",
        "activity_log:read",
    ]);
    for (id, discloses) in DISCLOSURES {
        if matches!(discloses, Persons | IdsAndAddresses) {
            let answer = ask(&spec::operation(id), project.id, cohort, Some(&key));
            answer.is_error(403, "permission_denied", None);
        }
    }
}

/// All scopes that the operations require.
fn all_scopes() -> Vec<&'static str> {
    let mut scopes: Vec<&str> = spec::operations()
        .iter()
        .filter_map(Operation::scopes)
        .flatten()
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

fn guarded() -> Vec<(Operation, Vec<&'static str>)> {
    let guarded = spec::operations()
        .into_iter()
        .filter_map(|operation| Some((operation, operation.scopes()?)));
    let guarded: Vec<_> = guarded.collect();
    assert!(
        guarded.len() >= 10,
        "only {} operations require a key",
        guarded.len()
    );
    guarded
}

fn ask(operation: &Operation, project: i64, cohort: i64, key: Option<&str>) -> Answer {
    let method = operation.method();
    let mut call = request(method.clone(), &operation.address(project, cohort));
    if let Some(key) = key {
        call = call.bearer_auth(key);
    }
    if matches!(operation.method, "post" | "patch" | "put") {
        call = call.json(&json!({"filters": {"properties": {"type": "OR", "values": []}}}));
    }
    send(&method, call)
}

#[test]
fn every_guarded_operation_requires_a_key() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, _) in guarded() {
        let answer = ask(&operation, project.id, cohort, None);
        answer.is_error(401, "not_authenticated", None);
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[test]
fn every_guarded_operation_rejects_a_wrong_key() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, _) in guarded() {
        for wrong in ["phx_unknown", project.token.as_str()] {
            let answer = ask(&operation, project.id, cohort, Some(wrong));
            answer.is_error(401, "authentication_failed", None);
            assert!(answer.detail().contains("Authorization header is invalid"));
        }
    }
}

#[test]
fn every_guarded_operation_names_the_missing_scope() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, scopes) in guarded() {
        for scope in scopes {
            let includes = format!("{}:write", scope.split(':').next().expect("a thing"));
            let others = all_scopes();
            let others = others
                .into_iter()
                .filter(|other| *other != scope && *other != includes);
            let others: Vec<&str> = others.chain(["survey:read"]).collect();
            let key = project.key_with(&others);
            let answer = ask(&operation, project.id, cohort, Some(&key));
            answer.is_error(403, "permission_denied", None);
            assert_eq!(
                answer.detail(),
                format!("API key missing required scope '{scope}'")
            );
        }
    }
}

#[test]
fn documented_scopes_are_sufficient() {
    let project = Project::new();
    let cohort = project.cohort(json!({}));
    for (operation, scopes) in guarded() {
        let key = project.key_with(&scopes);
        let answer = ask(&operation, project.id, cohort, Some(&key));
        assert!(
            ![401, 403].contains(&answer.status),
            "{}: {}",
            operation.id,
            answer.text
        );
    }
}

#[test]
fn key_of_another_project_is_forbidden() {
    let (project, other) = (Project::new(), Project::new());
    let cohort = project.cohort(json!({}));
    let in_project = |(operation, _): &(Operation, _)| operation.path.contains("{project_id}");
    for (operation, _) in guarded().into_iter().filter(in_project) {
        let answer = ask(&operation, project.id, cohort, Some(&other.key));
        answer.is_error(403, "permission_denied", None);
        let detail = format!(
            "API key does not have access to the requested project: ID {}.",
            project.id
        );
        assert_eq!(answer.detail(), detail);
    }
}

#[test]
fn cohort_of_another_project_is_answered_like_an_unknown_one() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({"name": "theirs"}));
    for id in [
        "cohorts_retrieve",
        "cohorts_partial_update",
        "cohorts_persons_retrieve",
        "cohorts_persons_csv",
        "cohorts_persons_ndjson",
        "cohorts_changes",
        "cohorts_changes_sse",
    ] {
        let operation = spec::operation(id);
        let answers = [theirs, 999_999_999]
            .map(|cohort| ask(&operation, project.id, cohort, Some(&project.key)));
        answers[0].is_error(404, "not_found", None);
        assert_eq!(answers[0].text, answers[1].text);
    }
    assert_eq!(
        other.get(&format!("cohorts/{theirs}/")).json()["name"],
        "theirs"
    );
}

#[test]
fn unknown_project_is_reported_before_a_missing_scope() {
    let project = Project::new();
    let key = project.key_with(&["survey:read"]);
    for unknown in ["999999999", "abc", "0", "-1", "@nowhere"] {
        let call =
            request(Method::GET, &format!("/api/projects/{unknown}/cohorts/")).bearer_auth(&key);
        let answer = send(&Method::GET, call);
        answer.is_error(404, "not_found", None);
        assert_eq!(answer.detail(), "Project not found.");
    }
}
