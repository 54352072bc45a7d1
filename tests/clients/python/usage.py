"""Uses the client that OpenAPI Generator generates in Python from the contract, against the service at COHORTS_URL.
`.ci/clients` describes the calls."""

import json
import os

from cohorts_openapi import (
    ApiClient,
    CaptureApi,
    CaptureBatch,
    CaptureEvent,
    Cohort,
    CohortCreate,
    CohortFilters,
    CohortFiltersProperties,
    CohortsApi,
    Configuration,
    FilterGroup,
    FilterNode,
    FilterValue,
    MembersApi,
    PatchedCohort,
    PersonLeaf,
    PersonsToAdd,
    ProjectsApi,
)
from cohorts_openapi.exceptions import BadRequestException, NotFoundException


def list_pages(cohorts):
    first = cohorts.cohorts_list("@current", limit=2)
    assert first.count >= 8 and len(first.results) == 2, first
    assert first.previous is None and "offset=2" in first.next, first
    second = cohorts.cohorts_list("@current", limit=2, offset=2)
    assert {row.id for row in first.results}.isdisjoint(row.id for row in second.results), second


def create(cohorts):
    pro = PersonLeaf(type="person", key="plan", operator="exact", value=FilterValue("pro"))
    older = PersonLeaf(type="person", key="age", operator="gt", value=FilterValue(16777217))
    group = FilterGroup(type="AND", values=[FilterNode(pro), FilterNode(older)])
    filters = CohortFilters(properties=CohortFiltersProperties(group))
    cohort = cohorts.cohorts_create("@current", cohort_create=CohortCreate(name="Pros", filters=filters))
    assert cohort.name == "Pros" and not cohort.is_static, cohort
    assert cohort.filters.properties["values"][1]["value"] == 16777217, cohort.filters
    assert cohort.query is None and cohort.count is None and cohort.created_by.email, cohort

    changed = cohorts.cohorts_partial_update("@current", cohort.id, patched_cohort=PatchedCohort(name=None))
    assert changed.name is None and changed.filters == cohort.filters, changed
    # A field of a later version of the service.
    later = Cohort.from_dict({**json.loads(cohort.to_json()), "later": {"is": "kept"}})
    assert later.additional_properties == {"later": {"is": "kept"}}, later


def members(cohorts):
    first = cohorts.cohorts_persons_retrieve("@current", 1, limit=3)
    assert len(first.results) == 3 and first.next is not None, first
    person = first.results[0]
    assert person.properties["email"] == person.name and person.value_at_data_point is None, person
    return [str(person.id) for person in first.results]


def add_persons(client, cohorts, persons):
    cohort = cohorts.cohorts_create("@current", cohort_create=CohortCreate(name="By hand", is_static=True))
    done = MembersApi(client).cohorts_add_persons_to_static_cohort_partial_update(
        "@current", cohort.id, persons_to_add=PersonsToAdd(person_ids=persons)
    )
    assert done.success, done
    assert cohorts.cohorts_retrieve("@current", cohort.id).count == len(persons)


def capture(client):
    token = ProjectsApi(client).projects_list().results[0].api_token
    event = CaptureEvent(event="signed up", distinct_id="ana", properties={"$set": {"language": "pt"}})
    answer = CaptureApi(client).capture_batch(CaptureBatch(api_key=token, batch=[event]))
    assert answer.status == "Ok", answer


def errors(cohorts):
    try:
        cohorts.cohorts_persons_retrieve("@current", 1, properties="no JSON")
    except BadRequestException as error:
        assert error.data.code.actual_instance == "invalid_input" and error.data.attr == "properties", error.data
    else:
        raise AssertionError("a malformed `properties` must be rejected")
    try:
        cohorts.cohorts_retrieve("@current", 999_999)
    except NotFoundException as error:
        assert error.data.code.actual_instance == "not_found" and error.data.attr is None, error.data
    else:
        raise AssertionError("there must be no such cohort")


configuration = Configuration(host=os.environ["COHORTS_URL"], access_token=os.environ["COHORTS_KEY"])
with ApiClient(configuration) as client:
    cohorts = CohortsApi(client)
    list_pages(cohorts)
    create(cohorts)
    add_persons(client, cohorts, members(cohorts))
    capture(client)
    errors(cohorts)
