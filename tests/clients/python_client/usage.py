"""Uses the client that openapi-python-client generates from the contract, against the service at COHORTS_URL.
`.ci/clients` describes the calls."""

import os

from cohorts_client import AuthenticatedClient
from cohorts_client.api.capture import capture_batch
from cohorts_client.api.cohorts import (
    cohorts_create,
    cohorts_list,
    cohorts_partial_update,
    cohorts_persons_retrieve,
    cohorts_retrieve,
)
from cohorts_client.api.members import cohorts_add_persons_to_static_cohort_partial_update as add_to_cohort
from cohorts_client.api.projects import projects_list
from cohorts_client.models import (
    CaptureBatch,
    CaptureEvent,
    Cohort,
    CohortCreate,
    CohortFilters,
    Error,
    FilterGroup,
    FilterGroupType,
    PatchedCohort,
    PersonLeaf,
    PersonLeafOperator,
    PersonLeafType,
    PersonsToAdd,
    Properties,
)


def list_pages(client):
    first = cohorts_list.sync("@current", client=client, limit=2)
    assert first.count >= 8 and len(first.results) == 2, first
    assert first.previous is None and "offset=2" in first.next_, first
    second = cohorts_list.sync("@current", client=client, limit=2, offset=2)
    assert {row.id for row in first.results}.isdisjoint(row.id for row in second.results), second


def create(client):
    criteria = [("plan", PersonLeafOperator.EXACT, "pro"), ("age", PersonLeafOperator.GT, 16777217)]
    leaves = [PersonLeaf(PersonLeafType.PERSON, *criterion) for criterion in criteria]
    filters = CohortFilters(properties=FilterGroup(FilterGroupType.AND, leaves))
    cohort = cohorts_create.sync("@current", client=client, body=CohortCreate(name="Pros", filters=filters))
    assert cohort.name == "Pros" and not cohort.is_static, cohort
    assert cohort.filters.properties["values"][1]["value"] == 16777217, cohort.filters
    assert cohort.query is None and cohort.count is None and cohort.created_by.email, cohort

    changed = cohorts_partial_update.sync("@current", cohort.id, client=client, body=PatchedCohort(name=None))
    assert changed.name is None and changed.filters == cohort.filters, changed
    # A field of a later version of the service.
    later = Cohort.from_dict({**cohort.to_dict(), "later": {"is": "kept"}})
    assert later.additional_properties == {"later": {"is": "kept"}}, later


def members(client):
    first = cohorts_persons_retrieve.sync("@current", 1, client=client, limit=3)
    assert len(first.results) == 3 and first.next_ is not None, first
    person = first.results[0]
    assert person.properties["email"] == person.name and person.value_at_data_point is None, person
    return [str(person.id) for person in first.results]


def add_persons(client, persons):
    body = CohortCreate(name="By hand", is_static=True)
    cohort = cohorts_create.sync("@current", client=client, body=body)
    done = add_to_cohort.sync("@current", cohort.id, client=client, body=PersonsToAdd(person_ids=persons))
    assert done.success, done
    assert cohorts_retrieve.sync("@current", cohort.id, client=client).count == len(persons)


def capture(client):
    token = projects_list.sync(client=client).results[0].api_token
    properties = Properties.from_dict({"$set": {"language": "pt"}})
    event = CaptureEvent(event="signed up", distinct_id="ana", properties=properties)
    answer = capture_batch.sync(client=client, body=CaptureBatch(api_key=token, batch=[event]))
    assert answer.status == "Ok", answer


def errors(client):
    rejected = cohorts_persons_retrieve.sync("@current", 1, client=client, properties="no JSON")
    assert isinstance(rejected, Error), rejected
    assert rejected.code == "invalid_input" and rejected.attr == "properties", rejected
    missing = cohorts_retrieve.sync("@current", 999_999, client=client)
    assert isinstance(missing, Error), missing
    assert missing.code == "not_found" and missing.attr is None, missing


client = AuthenticatedClient(
    base_url=os.environ["COHORTS_URL"], token=os.environ["COHORTS_KEY"], raise_on_unexpected_status=True
)
with client:
    list_pages(client)
    create(client)
    add_persons(client, members(client))
    capture(client)
    errors(client)
