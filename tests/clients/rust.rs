//! The generated client against the server: two independent implementations of one contract.

use cohorts_client::{ByteStream, Client, Error, Nullable, ResponseValue, types};
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, person};

fn client(project: &Project) -> Client {
    Client::with_key(&project.server.url(), &project.key).expect("a client")
}

fn filters(value: Value) -> types::CohortFilters {
    serde_json::from_value(value).expect("filters")
}

/// Runs blocking work on another thread than the runtime of the test.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

#[tokio::test]
async fn cohort_is_created_calculated_and_listed_with_its_members() {
    let project = blocking(|| {
        let project = Project::new();
        project.persons([
            ("ann", json!({"plan": "pro"})),
            ("bob", json!({"plan": "free"})),
            ("cid", json!({"plan": "pro"})),
            ("dee", json!({"plan": "pro"})),
        ]);
        project
    })
    .await;
    let client = client(&project);
    let id = project.id.to_string();
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let body = types::CohortCreate::builder()
        .name("Pros".to_owned())
        .filters(filters(pros));
    let cohort = client
        .cohorts_create()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("created");
    assert!(cohort.is_calculating && cohort.count.is_none() && cohort.version.is_none());

    let number = project.id;
    let server = project.server;
    blocking(move || server.calculate_now(number))
        .await
        .expect("a calculation");
    let settled = client
        .cohorts_retrieve()
        .project_id(&id)
        .id(cohort.id)
        .send()
        .await
        .expect("retrieved");
    assert_eq!(
        (settled.count, settled.version, settled.is_calculating),
        (Some(3), Some(1), false)
    );

    let members = client
        .cohorts_persons_retrieve()
        .project_id(&id)
        .id(cohort.id)
        .limit(2)
        .stream();
    let members: Vec<types::Person> = members.try_collect().await.expect("persons");
    let mut names: Vec<String> = members.into_iter().map(|person| person.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["ann", "cid", "dee"]);

    let listed = client.cohorts_list().project_id(&id).stream();
    let listed: Vec<types::CohortListItem> = listed.try_collect().await.expect("cohorts");
    assert_eq!(
        listed.iter().map(|cohort| cohort.id).collect::<Vec<_>>(),
        [cohort.id]
    );
}

#[tokio::test]
async fn null_and_absent_are_distinct() {
    let project = blocking(Project::new).await;
    let client = client(&project);
    let id = project.id.to_string();
    let body = types::CohortCreate::builder()
        .name("A".to_owned())
        .description("b".to_owned());
    let cohort = client
        .cohorts_create()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("created");
    let change = types::PatchedCohort::builder().name(Nullable::Null);
    let changed = client
        .cohorts_partial_update()
        .project_id(&id)
        .id(cohort.id)
        .body(change)
        .send()
        .await;
    let changed = changed.expect("changed");
    assert_eq!(
        (changed.name.as_deref(), changed.description.as_str()),
        (None, "b")
    );
}

#[tokio::test]
async fn preview_returns_persons_and_its_duration() {
    let project = blocking(|| {
        let project = Project::new();
        project.persons([("ann", json!({"age": 30})), ("bob", json!({"age": 20}))]);
        project
    })
    .await;
    let body = types::CohortPreviewRequest::builder()
        .filters(filters(any_of(json!([person("age", "gt", 25)]))))
        .sample(5);
    let call = client(&project)
        .cohorts_preview()
        .project_id(project.id.to_string())
        .body(body)
        .send()
        .await;
    let preview = call.expect("a preview");
    assert_eq!((preview.count, preview.sample.len()), (1, 1));
    assert_eq!(preview.sample[0].distinct_ids, ["ann"]);
    assert!(preview.duration_ms > 0.0);
}

#[tokio::test]
async fn errors_have_the_envelope() {
    let project = blocking(Project::new).await;
    let client = client(&project);
    let id = project.id.to_string();
    let error = client
        .cohorts_retrieve()
        .project_id(&id)
        .id(999_999)
        .send()
        .await
        .expect_err("unknown");
    let Error::ErrorResponse(error) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (error.status().as_u16(), error.detail.as_str()),
        (404, "Not found.")
    );

    let refused = client
        .cohorts_destroy()
        .project_id(&id)
        .id(1)
        .send()
        .await
        .expect_err("not allowed");
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(405));
}

/// Reads a file to its end.
async fn text(file: ResponseValue<ByteStream>) -> String {
    let pieces: Vec<_> = file
        .into_inner_stream()
        .try_collect()
        .await
        .expect("a file");
    String::from_utf8(pieces.concat()).expect("a text")
}

#[tokio::test]
async fn members_are_downloaded_as_csv() {
    let (project, cohort) = blocking(|| {
        let project = Project::new();
        project.persons([("ann", json!({"plan": "pro"}))]);
        let cohort =
            project.cohort(json!({"filters": any_of(json!([person("plan", "is_set", "")]))}));
        project.settle(cohort);
        (project, cohort)
    })
    .await;
    let call = client(&project)
        .cohorts_persons_csv()
        .project_id(project.id.to_string())
        .id(cohort)
        .send()
        .await;
    let text = text(call.expect("a file")).await;
    assert!(
        text.starts_with("created_at,distinct_ids.0,id,last_seen_at,name,properties.plan\r\n"),
        "{text}"
    );
    assert!(text.ends_with(",ann,pro\r\n"), "{text}");
}

#[tokio::test]
async fn events_are_captured_with_the_project_token() {
    let project = blocking(Project::new).await;
    let body: types::CaptureBatch = serde_json::from_value(json!({
        "api_key": project.token, "batch": [{"event": "x", "distinct_id": "ann"}],
    }))
    .expect("a batch");
    let answer = client(&project)
        .capture_batch()
        .body(body)
        .send()
        .await
        .expect("captured");
    assert_eq!(answer.status, types::CaptureAnswerStatus::Ok);
}

#[tokio::test]
async fn events_are_captured_on_every_path_and_flags_are_empty() {
    let project = blocking(Project::new).await;
    let plain = client(&project);
    let event = |id: &str| {
        let event = json!({"api_key": project.token, "event": "x", "distinct_id": id});
        serde_json::from_value::<types::CaptureBody>(event).expect("an event")
    };
    let ok = types::CaptureAnswerStatus::Ok;
    let sent = plain.capture_event().body(event("a")).send().await;
    assert_eq!(sent.expect("captured").status, ok);
    let sent = plain.capture_browser_event().body(event("b")).send().await;
    assert_eq!(sent.expect("captured").status, ok);
    let sent = plain.capture_event_v0().body(event("c")).send().await;
    assert_eq!(sent.expect("captured").status, ok);
    let sent = plain.capture_track().body(event("d")).send().await;
    assert_eq!(sent.expect("captured").status, ok);

    let uuid = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    let events = json!({"batch": [{"event": "x", "distinct_id": "e", "uuid": uuid}]});
    let batch: types::AnalyticsBatch = serde_json::from_value(events).expect("a batch");
    let sender = Client::with_key(&project.server.url(), &project.token).expect("a client");
    let answer = sender
        .capture_analytics()
        .body(batch)
        .send()
        .await
        .expect("captured");
    assert_eq!(
        answer.results[uuid].result,
        types::AnalyticsResultResult::Ok
    );
    let persons = plain
        .persons_list()
        .project_id(project.id.to_string())
        .send()
        .await;
    assert_eq!(persons.expect("persons").results.len(), 5);

    let none = plain
        .flags()
        .body(types::FlagsBody::default())
        .send()
        .await
        .expect("no flags");
    assert!(none.flags.is_empty());
    let none = plain
        .decide()
        .body(types::FlagsBody::default())
        .send()
        .await
        .expect("no flags");
    assert!(!none.errors_while_computing_flags);
    let config = plain.capture_config().token("phc_x").send().await;
    assert!(!config.expect("a configuration").has_feature_flags);
}

/// A client, the id of its project as text, the ids of a static and of a dynamic cohort, and two persons.
async fn prepared() -> (Client, String, i64, i64) {
    let (project, listed, dynamic) = blocking(|| {
        let project = Project::new();
        project.persons([("ann", json!({"plan": "pro"})), ("bob", json!({}))]);
        let listed = project.cohort(json!({"name": "Listed", "is_static": true}));
        let pros = any_of(json!([person("plan", "exact", "pro")]));
        let dynamic = project.cohort(json!({"name": "Pros", "filters": pros}));
        project.settle(dynamic);
        (project, listed, dynamic)
    })
    .await;
    (client(&project), project.id.to_string(), listed, dynamic)
}

#[tokio::test]
async fn members_are_added_removed_and_uploaded() {
    let (client, id, cohort, _) = prepared().await;
    let persons = client.persons_list().project_id(&id).stream();
    let persons: Vec<types::Person> = persons.try_collect().await.expect("persons");
    let ann = persons.iter().find(|one| one.name == "ann").expect("Ann");

    let add = types::PersonsToAdd::builder().person_ids(vec![ann.id.to_string()]);
    let add = client
        .cohorts_add_persons_to_static_cohort_partial_update()
        .body(add);
    assert!(
        add.project_id(&id)
            .id(cohort)
            .send()
            .await
            .expect("added")
            .success
    );
    let theirs = client
        .persons_cohorts_retrieve()
        .project_id(&id)
        .person_id(ann.id.to_string());
    let theirs = theirs.send().await.expect("cohorts");
    assert!(theirs.results.iter().any(|one| one.id == cohort));
    let remove = types::PersonToRemove::builder().person_id(ann.id.to_string());
    let remove = client
        .cohorts_remove_person_from_static_cohort_partial_update()
        .body(remove);
    assert!(
        remove
            .project_id(&id)
            .id(cohort)
            .send()
            .await
            .expect("removed")
            .success
    );

    let form = || {
        let file = reqwest::multipart::Part::text("ann\nunknown\n").file_name("persons.csv");
        reqwest::multipart::Form::new()
            .text("is_static", "true")
            .part("csv", file)
    };
    let creation = client
        .cohorts_create_multipart(&id, form())
        .await
        .expect("created");
    assert_eq!(
        creation.upload.as_ref().map(|one| (one.added, one.unknown)),
        Some((1, 1))
    );
    let changed = client
        .cohorts_partial_update_multipart(&id, cohort, form())
        .await;
    assert_eq!(changed.expect("changed").count, Some(1));
    let again = client
        .cohorts_update_multipart(&id, cohort, form())
        .await
        .expect("changed");
    let again = again.upload.as_ref().expect("an upload").id;
    let uploads = client.cohorts_uploads().project_id(&id).id(cohort).stream();
    let uploads: Vec<types::Upload> = uploads.try_collect().await.expect("uploads");
    assert_eq!((uploads.len(), uploads[0].id), (2, again));
    let upload = client
        .cohorts_upload()
        .project_id(&id)
        .id(cohort)
        .upload_id(again);
    assert_eq!(
        upload.send().await.expect("an upload").problems[0].id,
        "unknown"
    );
}

#[tokio::test]
async fn cohort_is_replaced_and_copied_and_its_history_is_listed() {
    let (client, id, listed, cohort) = prepared().await;
    let change = types::PatchedCohort::builder().name(Nullable::Value("Professionals".to_owned()));
    let changed = client
        .cohorts_update()
        .project_id(&id)
        .id(cohort)
        .body(change)
        .send()
        .await;
    assert_eq!(
        changed.expect("changed").name.as_deref(),
        Some("Professionals")
    );
    let copied = client
        .cohorts_duplicate_as_static_cohort_retrieve()
        .project_id(&id)
        .id(cohort);
    assert_eq!(copied.send().await.expect("copied").count, Some(1));
    let history = client
        .cohorts_calculation_history_retrieve()
        .project_id(&id)
        .id(cohort)
        .send()
        .await;
    assert_eq!(history.expect("a history").count, 1);
    let uses = client
        .cohorts_used_in_retrieve()
        .project_id(&id)
        .id(listed)
        .send()
        .await;
    assert_eq!(uses.expect("uses").cohorts.total, 0);
    let sizes = client.cohorts_sizes().project_id(&id).id(cohort);
    let sizes = sizes
        .interval(types::CohortsSizesInterval::Month)
        .send()
        .await;
    let sizes = sizes.expect("sizes");
    assert_eq!(sizes.results.last().map(|row| row.count), Some(Some(1)));
    let changes = client
        .cohorts_activity_retrieve()
        .project_id(&id)
        .id(cohort)
        .send()
        .await;
    assert_eq!(changes.expect("changes").total_count, 2);
    let all = client
        .cohorts_all_activity_retrieve()
        .project_id(&id)
        .send()
        .await;
    assert_eq!(all.expect("changes").total_count, 4);
}

#[tokio::test]
async fn persons_are_retrieved_downloaded_and_deleted() {
    let (client, id, _, cohort) = prepared().await;
    let lines = client.cohorts_persons_ndjson().project_id(&id).id(cohort);
    let line = text(lines.send().await.expect("a file")).await;
    let ann: types::Person = serde_json::from_str(line.trim()).expect("a person");
    let shown = client
        .persons_retrieve()
        .project_id(&id)
        .uuid(ann.id.to_string())
        .send()
        .await;
    assert_eq!(shown.expect("a person").distinct_ids, ["ann"]);
    let table = client.persons_csv().project_id(&id).distinct_id("ann");
    let table = text(table.send().await.expect("a file")).await;
    assert_eq!(table.lines().count(), 2);
    let deleted = client
        .persons_destroy()
        .project_id(&id)
        .uuid(ann.id.to_string())
        .send()
        .await;
    deleted.expect("deleted");
    let left = client.persons_ndjson().project_id(&id);
    let left = text(left.send().await.expect("a file")).await;
    assert_eq!(left.lines().count(), 1);
}

#[tokio::test]
async fn persons_are_changed_counted_by_value_and_deleted_by_their_ids() {
    let (client, id, _, _) = prepared().await;
    let of = client.persons_list().project_id(&id).distinct_id("ann");
    let ann = of.send().await.expect("a page").results[0].id.to_string();
    let body = types::PersonPropertyValue::builder()
        .key("plan".to_owned())
        .value(json!("max"));
    let set = client
        .persons_update_property_create()
        .project_id(&id)
        .uuid(&ann);
    set.body(body).send().await.expect("a change");
    let values = async |client: &Client| {
        let call = client.persons_values_retrieve().project_id(&id).key("plan");
        let values = call.value("MA").send().await.expect("values");
        let pair = |value: &types::PersonValue| (value.name.clone(), value.count);
        values.iter().map(pair).collect::<Vec<_>>()
    };
    assert_eq!(values(&client).await, [("max".to_owned(), 1)]);
    let body = types::PersonPropertyToDelete::builder().unset("plan".to_owned());
    let unset = client
        .persons_delete_property_create()
        .project_id(&id)
        .uuid(&ann);
    assert!(unset.body(body).send().await.expect("a change").success);
    assert_eq!(values(&client).await, []);
    let body = types::PersonsToDelete::builder().distinct_ids(vec!["ann".to_owned()]);
    let delete = client
        .persons_bulk_delete_create()
        .project_id(&id)
        .body(body);
    assert_eq!(delete.send().await.expect("a result").persons_deleted, 1);
}

#[tokio::test]
async fn projects_actions_and_the_user_of_a_key_are_reached() {
    let (client, id, _, _) = prepared().await;
    let projects = client.projects_list().stream();
    let projects: Vec<types::Project> = projects.try_collect().await.expect("projects");
    assert_eq!(projects.len(), 1);
    let steps = json!({"name": "Bought", "steps": [{"event": "buy"}]});
    let body: types::ActionCreate = serde_json::from_value(steps).expect("an action");
    let call = client.actions_create().project_id(&id).body(body);
    let action = call.send().await.expect("an action").id;
    let body: types::PatchedAction =
        serde_json::from_value(json!({"description": "any"})).expect("a change");
    let change = client.actions_partial_update().project_id(&id).id(action);
    change.body(body).send().await.expect("a change");
    let call = client.actions_retrieve().project_id(&id).id(action);
    assert_eq!(call.send().await.expect("it").description, "any");
    let listed = client.actions_list().project_id(&id).send().await;
    assert_eq!(listed.expect("actions").results.len(), 1);
    let project = client
        .projects_retrieve()
        .project_id(&id)
        .send()
        .await
        .expect("a project");
    assert_eq!(project.id, projects[0].id);
    let me = client
        .users_retrieve()
        .send()
        .await
        .expect("a member of the team");
    assert_eq!(me.team.api_token, project.api_token);
}

/// Each method of the generated client is called in this file, or in that of the feed or of questions.
#[test]
fn every_method_of_the_client_is_called() {
    let read = |path: &str| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        std::fs::read_to_string(format!("{root}/{path}")).expect("a file")
    };
    let generated = read("crates/cohorts-client/src/generated.rs");
    let calls = ["rust", "changes", "questions"]
        .map(|name| read(&format!("tests/clients/{name}.rs")))
        .concat();
    let mut methods = Vec::new();
    // Methods of the client are at the first level of indentation, methods of builders deeper.
    let names = generated.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("    pub fn ")
            .or(line.strip_prefix("    pub async fn "))?;
        rest.split_once('(')
    });
    for (name, arguments) in names {
        if arguments.starts_with("&self") || arguments.is_empty() {
            methods.push(name.to_owned());
        }
    }
    assert!(
        methods.len() >= crate::contract::spec::operations().len(),
        "{methods:?}"
    );
    let missing: Vec<&String> = methods
        .iter()
        .filter(|name| !calls.contains(&format!(".{name}(")))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[tokio::test]
async fn stream_has_each_person_once_while_others_are_added_and_deleted() {
    let project = blocking(|| {
        let project = Project::new();
        let person = |number: usize| json!({"event": "x", "distinct_id": format!("p{number:02}")});
        project.capture((0..30).map(person).collect());
        project
    })
    .await;
    let client = client(&project);
    let id = project.id.to_string();
    let stream = client.persons_list().project_id(&id).limit(4).stream();
    let mut stream = std::pin::pin!(stream);
    let mut seen: Vec<String> = Vec::new();
    let mut deleted: Vec<String> = Vec::new();
    while let Some(person) = stream.try_next().await.expect("a page") {
        seen.push(person.distinct_ids[0].clone());
        // Before each second page, a person who was seen disappears, and a new one is stored.
        if seen.len().is_multiple_of(8) {
            let last = client
                .persons_destroy()
                .project_id(&id)
                .uuid(person.id.to_string());
            last.send().await.expect("deleted");
            deleted.extend(seen.last().cloned());
            let (number, token) = (seen.len(), project.token.clone());
            blocking(move || {
                let event =
                    json!({"api_key": token, "event": "x", "distinct_id": format!("new{number}")});
                let call = crate::harness::request(reqwest::Method::POST, "/capture/").json(&event);
                assert_eq!(
                    crate::harness::send(&reqwest::Method::POST, call).status,
                    200
                );
            })
            .await;
        }
    }
    assert!(deleted.len() >= 3, "{seen:?}");
    seen.retain(|id| !id.starts_with("new"));
    seen.sort_unstable();
    let all: Vec<String> = (0..30).map(|number| format!("p{number:02}")).collect();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_change_of_a_stale_copy_fails_with_the_current_cohort() {
    let project = blocking(Project::new).await;
    let (client, project_id) = (client(&project), project.id.to_string());
    let body = types::CohortCreate::builder().name("A".to_owned());
    let create = client.cohorts_create().project_id(&project_id).body(body);
    let created = create.send().await.expect("created");
    let tag = created.headers()["etag"].to_str().expect("text").to_owned();
    let rename = |name: &str| {
        let body = types::PatchedCohort::builder().name(Nullable::Value(name.to_owned()));
        let change = client.cohorts_partial_update().project_id(&project_id);
        change.id(created.id).if_match(&tag).body(body).send()
    };
    rename("B").await.expect("changed");
    let Err(Error::ErrorResponse(refused)) = rename("C").await else {
        panic!("the tag is stale")
    };
    assert_eq!(refused.status().as_u16(), 412);
    assert_ne!(refused.headers()["etag"], tag.as_str());
    let current = refused.into_inner().cohort.expect("the current cohort");
    assert_eq!(current.name.as_deref(), Some("B"));
}

#[tokio::test]
async fn a_retry_with_the_same_idempotency_key_creates_one_cohort() {
    let project = blocking(Project::new).await;
    let (client, project_id) = (client(&project), project.id.to_string());
    let create = || {
        let body = types::CohortCreate::builder().name("A".to_owned());
        let create = client.cohorts_create().project_id(&project_id);
        create.idempotency_key("first").body(body).send()
    };
    let created = create().await.expect("created");
    let retried = create().await.expect("created before");
    assert_eq!(created.id, retried.id);
    assert_eq!(created.headers()["etag"], retried.headers()["etag"]);
}
