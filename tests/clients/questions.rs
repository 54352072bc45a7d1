//! The generated client: questions about cohorts, and webhooks.

use cohorts_client::{Client, types};
use serde_json::{Value, json};

use crate::harness::{Project, any_of, person};

/// A project with two cohorts. The first has the members ann and bob, the second has ann.
fn world() -> (Project, [i64; 2]) {
    let project = Project::new();
    project.persons([
        ("ann", json!({"plan": "pro", "age": 30})),
        ("bob", json!({"plan": "pro", "age": 20})),
    ]);
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let adults = any_of(json!([person("age", "gt", 25)]));
    let cohorts = [pros, adults].map(|filters| project.cohort(json!({"filters": filters})));
    for cohort in cohorts {
        project.settle(cohort);
    }
    (project, cohorts)
}

fn client(project: &Project) -> Client {
    Client::with_key(&project.server.url(), &project.key).expect("a client")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn filters(value: Value) -> types::CohortFilters {
    serde_json::from_value(value).expect("filters")
}

#[tokio::test]
async fn memberships_are_explained_and_cohorts_compared() {
    let (project, [pros, adults]) = blocking(world).await;
    let (client, id) = (client(&project), project.id.to_string());
    let saved = client
        .cohorts_explain_retrieve()
        .project_id(&id)
        .id(adults)
        .distinct_id("bob")
        .send()
        .await
        .expect("an explanation");
    assert!(!saved.member && !saved.criteria[0].holds);
    let body = types::CohortExplainRequest::builder()
        .filters(filters(any_of(json!([person("age", "lt", 25)]))))
        .distinct_id("bob".to_owned());
    let unsaved = client
        .cohorts_explain_create()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("an explanation");
    assert!(unsaved.member);

    let body = types::MembershipsRequest::builder().distinct_ids(vec![
        "bob".to_owned(),
        "eve".to_owned(),
        "ann".to_owned(),
    ]);
    let memberships = client
        .cohorts_memberships()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("memberships");
    let ids = memberships.results.iter().map(|person| &person.cohort_ids);
    assert_eq!(
        ids.collect::<Vec<_>>(),
        [&vec![pros], &vec![], &vec![pros, adults]]
    );
    let body = types::CohortOverlapRequest::builder().cohort_ids(vec![pros, adults]);
    let overlap = client
        .cohorts_overlap()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("an overlap");
    assert_eq!(overlap.counts, [2, 1]);
    assert_eq!(overlap.intersections, [[2, 1], [1, 1]]);
    let body = types::CohortCompareRequest::builder().keys(vec!["age".to_owned()]);
    let compared = client.cohorts_compare().project_id(&id).id(adults);
    let compared = compared.body(body).send().await.expect("a comparison");
    assert_eq!((compared.inside, compared.outside), (1, 1));
    let values = compared.properties[0].values.iter();
    let lifts: Vec<_> = values
        .map(|value| (value.value.as_str(), value.lift))
        .collect();
    assert_eq!(lifts, [("30", None), ("20", Some(0.0))]);
}

#[tokio::test]
async fn names_and_values_of_the_catalogue_are_listed() {
    let project = blocking(|| {
        let project = Project::new();
        let properties = json!({"amount": 5, "$set": {"plan": "pro"}});
        let event = json!({"event": "paid", "distinct_id": "ann", "properties": properties});
        project.capture(json!([event]));
        let updated = project.server.update_catalogue(project.id);
        updated.expect("a catalogue");
        project
    });
    let project = project.await;
    let (client, id) = (client(&project), project.id.to_string());
    let events = client
        .event_definitions_list()
        .project_id(&id)
        .search("PAI");
    let events = events.send().await.expect("a page");
    assert_eq!((events.count, &*events.results[0].name), (1, "paid"));
    let properties = client.property_definitions_list().project_id(&id);
    let properties = properties.event_names(r#"["paid"]"#).send().await;
    let property = &properties.expect("a page").results[0];
    assert_eq!((&*property.name, property.is_numerical), ("amount", true));
    assert_eq!(property.is_seen_on_filtered_events, Some(true));
    let latest = client.events_list().project_id(&id).distinct_id("ann");
    let latest = latest.event("paid").limit(5).send().await.expect("a page");
    assert_eq!((&*latest.results[0].event, &latest.next), ("paid", &None));
    assert_eq!(latest.results[0].properties["amount"], 5);
    let values = client.events_values_retrieve().project_id(&id);
    let values = values.key("amount").event_name("paid").send().await;
    let values = values.expect("values");
    assert_eq!((&*values[0].name, values[0].count), ("5", 1));
}

#[tokio::test]
async fn webhooks_are_created_changed_and_deleted() {
    let project = blocking(Project::new).await;
    let (client, id) = (client(&project), project.id.to_string());
    let body = types::WebhookCreate::builder()
        .url("https://hooks.example.org/".to_owned())
        .description("for the shop".to_owned());
    let webhook = client
        .webhooks_create()
        .project_id(&id)
        .body(body)
        .send()
        .await
        .expect("a webhook");
    let secret = webhook.secret.clone().expect("a secret");
    let shown = client.webhooks_retrieve().project_id(&id).id(webhook.id);
    let shown = shown.send().await.expect("the webhook");
    assert!(shown.secret.is_none() && shown.description == "for the shop");
    let body = types::PatchedWebhook::builder().enabled(false);
    let paused = client
        .webhooks_partial_update()
        .project_id(&id)
        .id(webhook.id)
        .body(body)
        .send()
        .await
        .expect("a change");
    assert!(!paused.enabled);
    let rotated = client
        .webhooks_rotate_secret()
        .project_id(&id)
        .id(webhook.id);
    let rotated = rotated.send().await.expect("a secret");
    assert_ne!(rotated.secret, Some(secret));
    let list = client.webhooks_list().project_id(&id).send().await;
    assert_eq!(list.expect("webhooks").count, 1);
    let activity = client.webhooks_activity_retrieve().project_id(&id).send();
    assert!(!activity.await.expect("changes").results.is_empty());
    let deliveries = client.webhooks_deliveries().project_id(&id).id(webhook.id);
    assert!(
        deliveries
            .send()
            .await
            .expect("deliveries")
            .results
            .is_empty()
    );
    let replay = types::WebhookReplay::builder().from("2026-01-01T00:00:00Z".to_owned());
    let replayed = client
        .webhooks_replay()
        .project_id(&id)
        .id(webhook.id)
        .body(replay)
        .send()
        .await;
    replayed.expect("a position");
    // The name does not exist, so the test message is not delivered.
    let test = client.webhooks_test().project_id(&id).id(webhook.id);
    let delivery = test.send().await.expect("an attempt");
    assert!(delivery.error.is_some());
    let deletion = client.webhooks_destroy().project_id(&id).id(webhook.id);
    deletion.send().await.expect("a deletion");
    let gone = client.webhooks_retrieve().project_id(&id).id(webhook.id);
    gone.send().await.expect_err("deleted");
}

#[tokio::test]
async fn a_code_starts_a_session_of_the_console() {
    let project = blocking(Project::new).await;
    let (client, server, id) = (client(&project), project.server, project.id);
    let code = blocking(move || crate::service::console::code(server, id)).await;
    let start = || {
        let body = types::ConsoleCode::builder().code(code.clone());
        client.console_session_create().body(body).send()
    };
    let session = start().await.expect("a session");
    let other = Client::with_key(&server.url(), &session.key).expect("a client");
    let cohorts = other.cohorts_list().project_id(id.to_string()).send();
    assert_eq!(cohorts.await.expect("cohorts").count, 0);
    start().await.expect_err("used");
}
