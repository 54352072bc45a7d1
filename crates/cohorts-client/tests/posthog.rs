//! The client reads responses of PostHog, which lack the fields of this service.
//!
//! The files in `posthog/` have the shape that PostHog documents, with other values. Sources: the reference at
//! <https://posthog.com/docs/api> (`cohorts`, `persons`, `projects`, `users`, `actions`) and PostHog's OpenAPI document;
//! for lists of persons, activity, calculation history and uses, which that document does not describe, the serializers in
//! the repository `PostHog/posthog` (`posthog/api/cohort.py`, `posthog/api/person.py`,
//! `posthog/queries/actor_base_query.py`, `posthog/models/activity_logging`) and their tests.

mod stub;

use cohorts_client::{Client, Error, PersonId, types};
use types::{CohortType, ErrorType};

use stub::{listen, response};

const PERSON: &str = "018f3c2b-7d10-7e3a-8c21-1f0e9d8c7b6a";

/// A client of a listener that sends one response.
fn recorded(body: &str) -> Client {
    listen(vec![response("200 OK", body)]).0
}

#[tokio::test]
async fn cohorts_are_listed() {
    let client = recorded(include_str!("posthog/cohorts_list.json"));
    let page = client.cohorts_list().project_id("2").send().await;
    let page = page.expect("a page").into_inner();
    assert_eq!((page.count, page.results.len()), (212, 2));
    let [dynamic, fixed] = &page.results[..] else {
        panic!("{page:?}");
    };
    assert_eq!(dynamic.cohort_type, Some(CohortType::Realtime));
    assert_eq!(
        (dynamic.next_calculation, dynamic.count),
        (None, Some(1832))
    );
    assert_eq!(dynamic.last_error_code, None);
    // PostHog's choices include the empty text.
    assert_eq!(fixed.cohort_type, Some(CohortType::Other(String::new())));

    let client = recorded(include_str!("posthog/cohorts_list_search.json"));
    let call = client
        .cohorts_list()
        .project_id("2")
        .search("activ")
        .basic(true);
    let page = call.send().await.expect("a page").into_inner();
    let similar = types::CohortListItemSearchMatchType::Similar;
    assert_eq!(page.results[0].search_match_type, Some(similar));
    assert!(page.results[0].filters.is_none());
}

#[tokio::test]
async fn cohort_is_retrieved() {
    let client = recorded(include_str!("posthog/cohorts_retrieve.json"));
    let call = client.cohorts_retrieve().project_id("2").id(9031);
    let cohort = call.send().await.expect("a cohort").into_inner();
    assert_eq!(cohort.version, Some(14));
    let creator = cohort.created_by.expect("a user");
    assert_eq!(creator.role_at_organization.as_deref(), Some("engineering"));
    let leaves = &cohort.filters.properties["values"][0]["values"];
    assert_eq!(leaves[0]["conditionHash"], "5be0a1f2c3d4e596");
}

#[tokio::test]
async fn cohort_is_created() {
    let body = include_str!("posthog/cohorts_create.json");
    let (client, _) = listen(vec![response("201 Created", body)]);
    let body = types::CohortCreate::builder().name("Active on paid plans".to_owned());
    let call = client.cohorts_create().project_id("2").body(body);
    let cohort = call.send().await.expect("a cohort").into_inner();
    assert!(cohort.is_calculating && cohort.upload.is_none());
}

#[tokio::test]
async fn members_of_a_cohort_are_listed() {
    let client = recorded(include_str!("posthog/cohorts_persons.json"));
    let call = client.cohorts_persons_retrieve().project_id("2").id(9031);
    let page = call.send().await.expect("a page").into_inner();
    let person = &page.results[0];
    assert_eq!(person.id.to_string(), PERSON);
    assert_eq!(person.id, PersonId::from(person.uuid));
    assert_eq!(person.is_identified, Some(true));
    assert!(person.last_seen_at.is_some());
}

#[tokio::test]
async fn persons_are_listed() {
    // PostHog sends UUIDs, and documents numbers.
    for (body, id) in [
        (include_str!("posthog/persons_list.json"), PERSON),
        (
            include_str!("posthog/persons_list_documented.json"),
            "55120",
        ),
    ] {
        let page = recorded(body).persons_list().project_id("2").send().await;
        let page = page.expect("a page").into_inner();
        let person = &page.results[0];
        assert_eq!(person.id.to_string(), id);
        assert_eq!(person.uuid.to_string(), PERSON);
    }
}

#[tokio::test]
async fn person_is_retrieved() {
    let client = recorded(include_str!("posthog/persons_retrieve.json"));
    let id: uuid::Uuid = PERSON.parse().expect("a UUID");
    let person = client
        .persons_retrieve()
        .project_id("2")
        .uuid(id)
        .send()
        .await;
    let person = person.expect("a person").into_inner();
    assert_eq!(person.id, PersonId::Number(55120));
    assert_eq!((person.type_, person.is_identified), (None, None));
}

#[tokio::test]
async fn activity_is_listed() {
    let client = recorded(include_str!("posthog/cohorts_activity.json"));
    let call = client.cohorts_activity_retrieve().project_id("2").id(9031);
    let page = call.send().await.expect("a page").into_inner();
    assert_eq!(page.total_count, 19);
    let [change, addition] = &page.results[..] else {
        panic!("{page:?}");
    };
    let changes = change.detail.changes.as_ref().expect("changes");
    assert_eq!(changes[0].action, types::ActivityChangeAction::Changed);
    assert_eq!(addition.user.is_system, Some(true));
}

#[tokio::test]
async fn calculation_history_is_listed() {
    let client = recorded(include_str!("posthog/cohorts_calculation_history.json"));
    let call = client.cohorts_calculation_history_retrieve();
    let call = call.project_id("2").id(9031).send();
    let page = call.await.expect("a page").into_inner();
    assert_eq!(page.results[0].total_read_rows, Some(120_345));
    assert_eq!(page.results[0].error_code, None);
    assert!(!page.results[1].is_completed);
}

#[tokio::test]
async fn uses_are_listed() {
    let client = recorded(include_str!("posthog/cohorts_used_in.json"));
    let call = client.cohorts_used_in_retrieve().project_id("2").id(9031);
    let uses = call.send().await.expect("uses").into_inner();
    assert_eq!(uses.feature_flags.results[0]["key"], "new-editor");
    assert!(uses.insights.has_more);
    assert_eq!(uses.cohorts.results[0].id, 9044);
}

#[tokio::test]
async fn projects_are_listed_and_retrieved() {
    let client = recorded(include_str!("posthog/projects_list.json"));
    let page = client.projects_list().send().await.expect("a page");
    assert_eq!(page.results[0].created_at, None);
    let client = recorded(include_str!("posthog/projects_retrieve.json"));
    let project = client.projects_retrieve().project_id("2").send().await;
    assert!(project.expect("a project").created_at.is_some());
}

#[tokio::test]
async fn current_user_is_retrieved() {
    let client = recorded(include_str!("posthog/users_me.json"));
    let user = client.users_retrieve().send().await.expect("a user");
    assert_eq!(user.team.timezone, "America/New_York");
}

#[tokio::test]
async fn actions_are_listed() {
    let client = recorded(include_str!("posthog/actions_list.json"));
    let page = client.actions_list().project_id("2").send().await;
    let page = page.expect("a page").into_inner();
    assert_eq!(page.results[0].tags, ["core"]);
}

#[tokio::test]
async fn error_of_an_unknown_type_is_read() {
    let body = include_str!("posthog/error.json");
    let (client, _) = listen(vec![response("402 Payment Required", body)]);
    let error = client.projects_list().send().await.expect_err("an error");
    let Error::ErrorResponse(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.type_, ErrorType::Other("quota_error".to_owned()));
    assert_eq!(error.code.to_string(), "plan_limit");
}
