//! Static cohorts: who is in them is said by hand.

use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{Answer, Project, any_of, person, request, send};

fn with_people() -> Project {
    let project = Project::new();
    project.people([
        ("d1", json!({"plan": "pro"})),
        ("d2", json!({"plan": "pro"})),
        ("d3", json!({})),
    ]);
    project
}

const NOBODY: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

#[test]
fn the_first_members_are_there_at_once() {
    let project = with_people();
    let ids = json!([
        project.person("d1"),
        project.person("d3"),
        NOBODY,
        "no uuid"
    ]);
    let made = project
        .post(
            "cohorts/",
            json!({"is_static": true, "_create_static_person_ids": ids}),
        )
        .json();
    assert_eq!(
        (&made["count"], &made["is_calculating"]),
        (&json!(2), &json!(false))
    );
    assert!(made.get("_create_static_person_ids").is_none());
    assert_eq!(
        project.members(made["id"].as_i64().expect("an id")),
        ["d1", "d3"]
    );
    let wrong = project.post(
        "cohorts/",
        json!({"is_static": true, "_create_static_person_ids": "x"}),
    );
    wrong.is_error(400, "not_a_list", Some("_create_static_person_ids"));
}

#[test]
fn people_are_added_once_however_often() {
    let project = with_people();
    let id = project.cohort(json!({"is_static": true}));
    let path = format!("cohorts/{id}/add_persons_to_static_cohort");
    for _ in 0..2 {
        let answer = project.patch(&path, json!({"person_ids": [project.person("d1"), NOBODY]}));
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"success": true}))
        );
        assert_eq!(project.get(&format!("cohorts/{id}/")).json()["count"], 1);
    }
    project.patch(&path, json!({"person_ids": [project.person("d2")]}));
    assert_eq!(project.members(id), ["d1", "d2"]);
    let newest = project.get(&format!("cohorts/{id}/activity/")).json()["results"][0].clone();
    assert_eq!(
        (&newest["activity"], &newest["detail"]["name"]),
        (&json!("persons_added_manually"), &Value::Null)
    );
    let change = json!([{"type": "Cohort", "action": "changed", "field": null, "before": null, "after": null}]);
    assert_eq!(newest["detail"]["changes"], change);
}

#[test]
fn what_cannot_be_added_is_refused_in_words() {
    let project = with_people();
    let of = |id: i64| format!("cohorts/{id}/add_persons_to_static_cohort/");
    let dynamic = of(project.cohort(json!({})));
    let fixed = of(project.cohort(json!({"is_static": true})));
    let many: Vec<&str> = vec![NOBODY; 1_001];
    for (path, body, detail) in [
        (
            &dynamic,
            json!({"person_ids": "x"}),
            "Can only add users to static cohorts",
        ),
        (&fixed, json!({}), "person_ids must be a list"),
        (
            &fixed,
            json!({"person_ids": "x"}),
            "person_ids must be a list",
        ),
        (
            &fixed,
            json!({"person_ids": []}),
            "person_ids cannot be empty",
        ),
        (
            &fixed,
            json!({"person_ids": many}),
            "List size exceeds limit",
        ),
        (
            &fixed,
            json!({"person_ids": [NOBODY, 7, "x"]}),
            "No valid users to add to cohort",
        ),
    ] {
        let answer = project.patch(path, body);
        assert_eq!(answer.is_error(400, "invalid_input", None).detail(), detail);
    }
}

#[test]
fn a_person_of_another_project_is_nobody_here() {
    let (project, other) = (with_people(), with_people());
    let id = project.cohort(json!({"is_static": true}));
    let body = json!({"person_ids": [other.person("d1")]});
    project
        .patch(&format!("cohorts/{id}/add_persons_to_static_cohort/"), body)
        .is_error(400, "invalid_input", None);
    let body = json!({"person_id": other.person("d1")});
    let answer = project.patch(
        &format!("cohorts/{id}/remove_person_from_static_cohort/"),
        body,
    );
    answer.is_error(404, "not_found", None);
}

#[test]
fn a_person_is_removed_and_the_others_stay() {
    let project = with_people();
    let ids = json!([project.person("d1"), project.person("d2")]);
    let id = project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}));
    let path = format!("cohorts/{id}/remove_person_from_static_cohort");
    for _ in 0..2 {
        let answer = project.patch(&path, json!({"person_id": project.person("d1")}));
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"success": true}))
        );
    }
    assert_eq!(project.members(id), ["d2"]);
    assert_eq!(project.get(&format!("cohorts/{id}/")).json()["count"], 1);
    // The second removal changed nothing, so it left no entry.
    let log = project.get(&format!("cohorts/{id}/activity/")).json();
    assert_eq!(
        (&log["total_count"], &log["results"][0]["activity"]),
        (&json!(2), &json!("person_removed_manually"))
    );
}

#[test]
fn what_cannot_be_removed_is_refused_in_words() {
    let project = with_people();
    let of = |id: i64| format!("cohorts/{id}/remove_person_from_static_cohort/");
    let dynamic = of(project.cohort(json!({})));
    let fixed = of(project.cohort(json!({"is_static": true})));
    for (path, body, detail) in [
        (
            &dynamic,
            json!({"person_id": 1}),
            "Can only remove users from static cohorts",
        ),
        (&fixed, json!({}), "person_id is required"),
        (&fixed, json!({"person_id": ""}), "person_id is required"),
        (
            &fixed,
            json!({"person_id": 123}),
            "person_id must be a string",
        ),
        (
            &fixed,
            json!({"person_id": "a"}),
            "person_id must be a valid UUID",
        ),
    ] {
        let answer = project.patch(path, body);
        assert_eq!(answer.is_error(400, "invalid_input", None).detail(), detail);
    }
    let unknown = project.patch(&fixed, json!({"person_id": NOBODY}));
    let detail = unknown.is_error(404, "not_found", None).detail();
    assert_eq!(
        detail,
        "Person with this UUID does not exist in the cohort's team"
    );
}

#[test]
fn people_added_while_a_snapshot_waits_are_not_lost() {
    let project = with_people();
    let id = project.cohort(
        json!({"is_static": true, "filters": any_of(json!([person("plan", "exact", "pro")]))}),
    );
    let body = json!({"person_ids": [project.person("d3")]});
    project.patch(&format!("cohorts/{id}/add_persons_to_static_cohort/"), body);
    assert_eq!(project.settle(id)["count"], 3);
    assert_eq!(project.members(id), ["d1", "d2", "d3"]);
}

#[test]
fn a_copy_keeps_the_members_of_now() {
    let project = with_people();
    let id = project.cohort(json!({"name": "Alpha", "description": "x", "filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    let copy = project
        .get(&format!("cohorts/{id}/duplicate_as_static_cohort"))
        .json();
    let shown = (
        &copy["name"],
        &copy["is_static"],
        &copy["count"],
        &copy["description"],
        &copy["is_calculating"],
    );
    assert_eq!(
        shown,
        (
            &json!("Alpha (static copy)"),
            &json!(true),
            &json!(2),
            &json!(""),
            &json!(false)
        )
    );
    let copied = copy["id"].as_i64().expect("an id");
    assert_ne!(copied, id);
    project.people([("d1", json!({"plan": "free"}))]);
    project.patch(&format!("cohorts/{id}/"), json!({}));
    project.settle(id);
    assert_eq!(
        (project.members(id).len(), project.members(copied).len()),
        (1, 2)
    );
    let again = project.get(&format!("cohorts/{copied}/duplicate_as_static_cohort/"));
    let detail = again.is_error(400, "invalid_input", None).detail();
    assert_eq!(
        detail,
        "Cannot duplicate a static cohort as a static cohort."
    );
}

#[test]
fn the_criteria_of_a_static_cohort_are_frozen() {
    let project = with_people();
    let pro = any_of(json!([person("plan", "exact", "pro")]));
    let id = project.cohort(json!({"is_static": true, "filters": pro}));
    let path = format!("cohorts/{id}/");
    for filters in [
        any_of(json!([person("plan", "exact", "free")])),
        json!({"properties": {}}),
    ] {
        let answer = project.patch(&path, json!({"filters": filters}));
        let detail = answer.is_error(400, "invalid_input", None).detail();
        assert!(
            detail.starts_with("Editing the criteria of a static cohort is not supported yet"),
            "{detail}"
        );
    }
    assert_eq!(
        project
            .patch(&path, json!({"name": "B", "filters": pro}))
            .status,
        200
    );
    let bare = project.cohort(json!({"is_static": true, "filters": {"properties": {}}}));
    project
        .patch(&format!("cohorts/{bare}/"), json!({"filters": pro}))
        .is_error(400, "invalid_input", None);
}

#[test]
fn a_static_cohort_can_become_dynamic_and_back() {
    let project = with_people();
    let id = project
        .cohort(json!({"is_static": true, "_create_static_person_ids": [project.person("d3")]}));
    let path = format!("cohorts/{id}/");
    let groups = json!([{"properties": [{"key": "plan", "value": "pro"}]}]);
    let flipped = project
        .patch(&path, json!({"is_static": false, "groups": groups}))
        .json();
    assert_eq!(
        (&flipped["is_calculating"], &flipped["pending_version"]),
        (&json!(true), &json!(1))
    );
    project.settle(id);
    assert_eq!(project.members(id), ["d1", "d2"]);
    let back = project.patch(&path, json!({"is_static": true})).json();
    assert_eq!(
        (&back["is_calculating"], &back["count"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(project.members(id), ["d1", "d2"]);
}

fn upload(project: &Project, cohort: Option<i64>, content: &[u8]) -> Answer {
    project.upload(cohort, content, &[("name", "Uploaded")])
}

#[test]
fn a_file_of_ids_fills_a_cohort_and_another_adds_to_it() {
    let project = with_people();
    project.people([("e1", json!({"email": "e@x.io"}))]);
    let made = upload(&project, None, b"User ID\ne@x.io\nd1\n");
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!(
        (&made["name"], &made["count"], &made["is_calculating"]),
        (&json!("Uploaded"), &json!(1), &json!(false))
    );
    let id = made["id"].as_i64().expect("an id");
    assert_eq!(project.members(id), ["d1"]);
    for _ in 0..2 {
        let added = upload(&project, Some(id), b"d2\nd1\nnobody\n").json();
        assert_eq!(
            (&added["count"], &added["is_calculating"]),
            (&json!(2), &json!(false))
        );
    }
    assert_eq!(project.members(id), ["d1", "d2"]);
    // Without a file nothing happens to the members.
    let form = Form::new().text("name", "Renamed");
    let asked =
        request(Method::PATCH, &project.path(&format!("cohorts/{id}/"))).bearer_auth(&project.key);
    let renamed = send(&Method::PATCH, asked.multipart(form)).json();
    assert_eq!(
        (&renamed["name"], &renamed["count"]),
        (&json!("Renamed"), &json!(2))
    );
}

#[test]
fn the_columns_of_a_file_are_told_by_their_names() {
    let project = with_people();
    project.people([("e1", json!({"email": "e@x.io"}))]);
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
        let made = upload(&project, None, content.as_bytes());
        assert_eq!(made.status, 201, "{}", made.text);
        let made = made.json();
        assert_eq!(made["count"], expected.len(), "{content}");
        assert_eq!(
            project.members(made["id"].as_i64().expect("an id")),
            expected,
            "{content}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_and_makes_no_cohort() {
    let project = with_people();
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
        let detail = upload(&project, None, content)
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
    let asked = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    send(&Method::POST, asked.multipart(twice)).is_error(400, "parse_error", None);
    let dynamic = project.cohort(json!({}));
    let form = Form::new().part("csv", Part::bytes(b"d1\n".to_vec()).file_name("a.csv"));
    let asked = request(Method::PATCH, &project.path(&format!("cohorts/{dynamic}/")))
        .bearer_auth(&project.key);
    send(&Method::PATCH, asked.multipart(form)).is_error(400, "invalid_input", Some("csv"));
    assert_eq!(project.get("cohorts/").json()["count"], 1);
}

#[test]
fn our_own_export_can_be_uploaded_again() {
    let project = with_people();
    let id = project.cohort(json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    let shared = json!({"email": "shared@x.io"});
    project.people([("d1", shared.clone()), ("d3", shared)]);
    let export = project
        .get(&format!("cohorts/{id}/persons/?format=csv"))
        .text;
    let made = upload(&project, None, export.as_bytes()).json();
    assert_eq!(
        project.members(made["id"].as_i64().expect("an id")),
        ["d1", "d2"]
    );
}

#[test]
fn an_upload_is_not_received_from_who_may_not_send_it() {
    let project = with_people();
    let form = || Form::new().part("csv", Part::bytes(vec![b'a'; 1 << 20]).file_name("a.csv"));
    let path = project.path("cohorts/");
    send(
        &Method::POST,
        request(Method::POST, &path).multipart(form()),
    )
    .is_error(401, "not_authenticated", None);
    let reader = project.key_with(&["cohort:read"]);
    let asked = request(Method::POST, &path)
        .bearer_auth(reader)
        .multipart(form());
    send(&Method::POST, asked).is_error(403, "permission_denied", None);
}

#[test]
fn a_form_is_read_as_its_fields() {
    let project = with_people();
    let filters = any_of(json!([person("plan", "exact", "pro")])).to_string();
    let asked = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let made = send(
        &Method::POST,
        asked.form(&[
            ("name", "By form"),
            ("filters", &filters),
            ("is_static", "no"),
        ]),
    );
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json()["id"].as_i64().expect("an id");
    assert_eq!(project.settle(id)["count"], 2);
    let asked = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let wrong = send(&Method::POST, asked.form(&[("filters", "{")]));
    let detail = wrong
        .is_error(400, "invalid_input", Some("filters"))
        .detail();
    assert_eq!(detail, "Value must be valid JSON.");
}
