//! Files that spreadsheets and other programs write: delimiters, headers, encodings, and files that are no CSV.

use serde_json::{Value, json};

use super::{create, update, with_shared_address};
use crate::harness::{Project, first_ids};

const CREATE: &[(&str, &str)] = &[("create_people", "true")];
const REPLACE: &[(&str, &str)] = &[("replace_members", "true")];

fn members_of(project: &Project, content: &str) -> Vec<String> {
    let (id, _) = create(project, content, &[]);
    project.members(id)
}

#[test]
fn semicolons_tabs_and_declared_delimiters_are_read() {
    let project = with_shared_address();
    for content in [
        "email;first_name\none@x.io;Ana\n",
        "email\tfirst_name\none@x.io\tAna\n",
        "email|first_name\none@x.io|Ana\n",
        "sep=;\r\nemail;first_name\r\none@x.io;Ana\r\n",
        "People export,,\nname,email,x\nAna,one@x.io,1\n",
        ",email\n0,one@x.io\n",
        "EMAIL ADDRESS\n ONE@X.io \n",
    ] {
        let (id, cohort) = create(&project, content, CREATE);
        assert_eq!(project.members(id), ["d1"], "{content:?}");
        assert_eq!(cohort["upload"]["created_people"], 0, "{content:?}");
    }
}

#[test]
fn the_outcome_reports_what_each_column_was_read_as() {
    let project = with_shared_address();
    let (id, cohort) = create(&project, "name;distinct_id;\nAna;d1;\n", &[]);
    let columns = json!([{"name": "name", "used_as": null}, {"name": "distinct_id", "used_as": "distinct_id"}, {"name": "", "used_as": null}]);
    let upload = cohort["upload"]["id"].clone();
    let stored = project.get(&format!("cohorts/{id}/uploads/{upload}/"));
    for outcome in [&cohort["upload"], &stored.json()] {
        assert_eq!(outcome["delimiter"], ";");
        assert_eq!(outcome["columns"], columns);
    }
}

#[test]
fn a_header_is_never_a_person() {
    let project = with_shared_address();
    for header in [
        "distinct_id",
        "Distinct ID",
        "$distinct_id",
        "user_id",
        "distinct_ids.0",
    ] {
        let (id, cohort) = create(&project, &format!("{header}\nd1\n"), CREATE);
        assert_eq!(project.members(id), ["d1"], "{header}");
        assert_eq!(cohort["upload"]["created_people"], 0, "{header}");
        let found = project
            .get(&format!("persons/?distinct_id={header}"))
            .json();
        assert_eq!(found["results"], json!([]), "{header}");
    }
}

#[test]
fn an_export_without_some_columns_selects_the_same_persons() {
    let project = with_shared_address();
    let (id, _) = create(&project, "distinct_id\nd2\nd1\n", &[]);
    let export = project.get(&format!("cohorts/{id}/persons.csv")).text;
    let rows: Vec<Vec<&str>> = export
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    let without = |columns: &[&str]| {
        let keep = |row: &Vec<&str>| {
            let cells = rows[0].iter().zip(row);
            let cells = cells.filter(|(name, _)| !columns.contains(name));
            cells
                .rev()
                .map(|(_, cell)| *cell)
                .collect::<Vec<_>>()
                .join(",")
        };
        rows.iter().map(keep).collect::<Vec<_>>().join("\n")
    };
    for columns in [
        &["last_seen_at"][..],
        &["created_at", "name"],
        &["email", "distinct_ids.0"],
        &["id", "last_seen_at"],
    ] {
        assert_eq!(
            members_of(&project, &without(columns)),
            ["d1", "d2"],
            "{columns:?}"
        );
    }
}

/// Uploads in place of the members, and expects a refusal that changes nothing.
#[track_caller]
fn refused_replacement(project: &Project, id: i64, content: impl Into<Vec<u8>>) -> Value {
    let answer = project.upload(Some(id), content, REPLACE);
    answer.is_error(400, "invalid_input", Some("csv"));
    assert_eq!(project.members(id), ["d1", "d2"]);
    answer.json()
}

#[test]
fn a_misread_file_never_empties_a_cohort() {
    let project = with_shared_address();
    let (id, _) = create(&project, "distinct_id,x\nd1,1\nd2,1\n", &[]);
    let utf16: Vec<u8> = "distinct_id\nd1\n"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let contents: [Vec<u8>; 5] = [
        b"PK\x03\x04\x14\x00\x06\x00".to_vec(),
        utf16,
        b"[{\"distinct_id\": \"d1\"}]".to_vec(),
        b"<html><table>".to_vec(),
        b"distinct_id,name\nd1,\"Ana\nd2,Bob\n".to_vec(),
    ];
    for content in contents {
        refused_replacement(&project, id, content);
    }
    let refusal = refused_replacement(&project, id, "distinct_id\nunknown\n");
    let detail = refusal["detail"].as_str().expect("a sentence");
    assert!(detail.contains("allow_empty"), "{detail}");
    let emptied = [REPLACE, &[("allow_empty", "true")]].concat();
    let changed = update(&project, id, "distinct_id\nunknown\n", &emptied);
    assert_eq!(
        (&changed["count"], &changed["upload"]["removed"]),
        (&json!(0), &json!(2))
    );
}

#[test]
fn addresses_are_compared_without_case_and_blanks() {
    let project = Project::new();
    project.persons([
        ("d1", json!({"email": " Ana@X.io "})),
        ("d2", json!({"email": "bob@x.io"})),
    ]);
    let (id, cohort) = create(&project, "email\nANA@x.io\nana@x.IO \n", CREATE);
    assert_eq!(project.members(id), ["d1"]);
    assert_eq!(cohort["upload"]["created_people"], 0);
}

#[test]
fn an_address_is_equal_to_itself_in_every_script() {
    let project = Project::new();
    let addresses = [
        ("p0", "\u{3a0}\u{395}\u{3a4}\u{3a1}\u{39f}\u{3a3}@x.gr"),
        ("p1", "\u{130}pek@x.tr"),
        ("p2", "\u{a0}tb2@x.io"),
        ("p3", "\u{3000}tb3@x.io\u{2003}"),
        ("p4", "STRA\u{df}E@x.de"),
    ];
    project.persons(addresses.map(|(id, email)| (id, json!({"email": email}))));
    for (person, email) in addresses {
        for spelling in [email, email.trim()] {
            let text = format!("email,x\n{spelling},1\n");
            let (id, cohort) = create(&project, &text, CREATE);
            assert_eq!(project.members(id), [person], "{spelling}");
            assert_eq!(cohort["upload"]["created_people"], 0, "{spelling}");
            let found = project.get(&format!("persons/?email={spelling}")).json();
            assert_eq!(first_ids(&found["results"]), [person], "{spelling}");
        }
    }
}

#[test]
fn a_new_person_keeps_the_first_spelling_of_the_address() {
    let project = Project::new();
    let text = "email\nAna@X.io\nANA@x.io\n\u{3a3}@x.gr\n\u{3c3}@X.gr\nAna@X.io\n";
    let (id, cohort) = create(&project, text, CREATE);
    assert_eq!(project.members(id), ["Ana@X.io", "\u{3a3}@x.gr"]);
    let upload = &cohort["upload"];
    assert_eq!(
        (&upload["created_people"], &upload["rows"]),
        (&json!(2), &json!(5))
    );
    let found = project.get("persons/?email=ana@x.io").json();
    assert_eq!(
        found["results"][0]["properties"],
        json!({"email": "Ana@X.io"})
    );
    let (again, cohort) = create(&project, text, CREATE);
    assert_eq!(project.members(again).len(), 2);
    assert_eq!(cohort["upload"]["created_people"], 0);
}

#[test]
fn an_export_with_long_rows_selects_the_same_persons() {
    let project = Project::new();
    let long = "a".repeat(70 << 10);
    let wide: serde_json::Map<String, Value> = (0..2_500)
        .map(|number| (format!("property with a long name {number}"), json!(number)))
        .collect();
    project.persons([
        ("d1", json!({"email": "one@x.io", "about": long})),
        ("d2", json!({"email": "one@x.io"})),
        ("d3", Value::Object(wide)),
    ]);
    for ids in [&["d1"][..], &["d3"]] {
        let text = format!("distinct_id\n{}\n", ids.join("\n"));
        let (id, _) = create(&project, &text, &[]);
        let export = project.get(&format!("cohorts/{id}/persons.csv")).text;
        assert!(export.len() > 64 << 10);
        assert_eq!(members_of(&project, &export), ids);
        let without = export.replacen("distinct_ids.0", "first", 1);
        assert_ne!(without, export);
        assert_eq!(members_of(&project, &without), ids);
    }
}

#[test]
fn a_line_before_the_persons_is_no_person() {
    let project = with_shared_address();
    for content in [
        "Title\nGenerated by X,on Monday\ndistinct_id,x\nd1,1\n",
        "Newsletter list\ndistinct_id\nd1\n",
        "sep=;\ndistinct_id,x\nd1,1\n",
    ] {
        let (id, cohort) = create(&project, content, CREATE);
        assert_eq!(project.members(id), ["d1"], "{content:?}");
        assert_eq!(cohort["upload"]["created_people"], 0, "{content:?}");
    }
    for content in [
        "People export\nfirst_name,last_name\nAna,B\nCy,D\n",
        "People export;;\nfirst_name;last_name;\nAna;B;\n",
        "sep=:\ndistinct_id:x\nd1:1\n",
    ] {
        let answer = project.upload(None, content, CREATE);
        answer.is_error(400, "invalid_input", Some("csv"));
    }
    let persons = project.get("persons/").json();
    assert_eq!(persons["results"].as_array().expect("persons").len(), 3);
}

#[test]
fn a_file_without_rows_removes_all_members_if_that_is_allowed() {
    let project = with_shared_address();
    let allowed = [REPLACE, &[("allow_empty", "true")]].concat();
    for header in ["distinct_id", "email,name", "name,id", "distinct_id,x\n,1"] {
        let (id, _) = create(&project, "distinct_id,x\nd1,1\nd2,1\n", &[]);
        let header = format!("{header}\n");
        refused_replacement(&project, id, header.clone());
        let changed = update(&project, id, &header, &allowed);
        assert_eq!(
            (&changed["count"], &changed["upload"]["removed"]),
            (&json!(0), &json!(2))
        );
    }
}
