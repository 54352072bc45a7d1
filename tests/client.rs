//! The generated client against the server: two independent readings of one contract.

use cohorts_client::{Client, Error, Nullable, types};
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, person};

fn client(project: &Project) -> Client {
    Client::with_key(&project.server.url(), &project.key).expect("a client")
}

fn filters(value: Value) -> types::CohortFilters {
    serde_json::from_value(value).expect("filters")
}

/// What blocks the test's runtime is done on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

#[tokio::test]
async fn a_cohort_is_created_settled_and_listed_with_its_people() {
    let project = blocking(|| {
        let project = Project::new();
        project.people([
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
    let made = client
        .cohorts_create()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("created");
    assert!(made.is_calculating && made.count.is_none() && made.version.is_none());

    let number = project.id;
    let server = project.server;
    blocking(move || server.calculate_now(number))
        .await
        .expect("a calculation");
    let settled = client
        .cohorts_retrieve()
        .project_id(&id)
        .id(made.id)
        .send()
        .await
        .expect("retrieved");
    assert_eq!(
        (settled.count, settled.version, settled.is_calculating),
        (Some(3), Some(1), false)
    );

    let members = client
        .cohorts_persons()
        .project_id(&id)
        .id(made.id)
        .limit(2)
        .stream();
    let members: Vec<types::Person> = members.try_collect().await.expect("people");
    let mut names: Vec<String> = members.into_iter().map(|person| person.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["ann", "cid", "dee"]);

    let listed = client.cohorts_list().project_id(&id).stream();
    let listed: Vec<types::CohortListItem> = listed.try_collect().await.expect("cohorts");
    assert_eq!(
        listed.iter().map(|cohort| cohort.id).collect::<Vec<_>>(),
        [made.id]
    );
}

#[tokio::test]
async fn null_and_absent_are_told_apart() {
    let project = blocking(Project::new).await;
    let client = client(&project);
    let id = project.id.to_string();
    let body = types::CohortCreate::builder()
        .name("A".to_owned())
        .description("b".to_owned());
    let made = client
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
        .id(made.id)
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
async fn a_preview_answers_people_and_time() {
    let project = blocking(|| {
        let project = Project::new();
        project.people([("ann", json!({"age": 30})), ("bob", json!({"age": 20}))]);
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
async fn errors_come_as_the_envelope() {
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

#[tokio::test]
async fn people_are_downloaded_as_csv() {
    let (project, cohort) = blocking(|| {
        let project = Project::new();
        project.people([("ann", json!({"plan": "pro"}))]);
        let cohort =
            project.cohort(json!({"filters": any_of(json!([person("plan", "is_set", "")]))}));
        project.settle(cohort);
        (project, cohort)
    })
    .await;
    let answer = client(&project)
        .cohorts_persons_csv(&project.id.to_string(), cohort, &[])
        .await;
    let text = answer.expect("an answer").text().await.expect("a text");
    assert!(
        text.starts_with("created_at,distinct_ids.0,id,last_seen_at,name,properties.plan\r\n"),
        "{text}"
    );
    assert!(text.ends_with(",ann,pro\r\n"), "{text}");
}

#[tokio::test]
async fn events_are_captured_with_the_projects_token() {
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
