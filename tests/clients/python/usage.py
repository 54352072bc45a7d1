"""Uses the client that OpenAPI Generator generates from openapi.yaml, against the service at COHORTS_URL."""

import os

from cohorts_openapi import (
    ApiClient,
    CohortCreate,
    CohortFilters,
    CohortFiltersProperties,
    CohortsApi,
    Configuration,
    FilterGroup,
    FilterNode,
    FilterValue,
    PatchedCohort,
    PersonLeaf,
)
from cohorts_openapi.exceptions import BadRequestException

configuration = Configuration(
    host=os.environ["COHORTS_URL"], access_token=os.environ["COHORTS_KEY"]
)
pros = CohortFilters(
    properties=CohortFiltersProperties(
        FilterGroup(
            type="AND",
            values=[
                FilterNode(
                    PersonLeaf(type="person", key="plan", operator="exact", value=FilterValue("pro"))
                )
            ],
        )
    )
)

with ApiClient(configuration) as client:
    cohorts = CohortsApi(client)

    cohort = cohorts.cohorts_create("@current", CohortCreate(name="Pros", filters=pros))
    assert cohort.name == "Pros" and not cohort.is_static, cohort
    assert cohort.filters.properties["type"] == "AND", cohort.filters

    changed = cohorts.cohorts_partial_update(
        "@current", cohort.id, PatchedCohort(name="Professionals")
    )
    assert changed.name == "Professionals", changed
    assert changed.filters == cohort.filters, changed

    page = cohorts.cohorts_list("@current", limit=2)
    assert page.results[0].id == cohort.id, page

    persons = cohorts.cohorts_persons_retrieve("@current", 1, limit=3)
    assert len(persons.results) == 3 and persons.next is not None, persons

    try:
        cohorts.cohorts_persons_retrieve("@current", 1, properties="no JSON")
    except BadRequestException as error:
        assert error.data.attr == "properties", error.data
    else:
        raise AssertionError("a malformed `properties` must be rejected")
