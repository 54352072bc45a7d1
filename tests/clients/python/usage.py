"""Uses the client that OpenAPI Generator makes of openapi.yaml against the service at COHORTS_URL."""

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

    made = cohorts.cohorts_create("@current", CohortCreate(name="Pros", filters=pros))
    assert made.name == "Pros" and not made.is_static, made
    assert made.filters.properties["type"] == "AND", made.filters

    changed = cohorts.cohorts_partial_update(
        "@current", made.id, PatchedCohort(name="Professionals")
    )
    assert changed.name == "Professionals", changed
    assert changed.filters == made.filters, changed

    page = cohorts.cohorts_list("@current", limit=2)
    assert page.results[0].id == made.id, page

    people = cohorts.cohorts_persons("@current", 1, limit=3)
    assert len(people.results) == 3 and people.next is not None, people

    try:
        cohorts.cohorts_persons("@current", 1, properties="no JSON")
    except BadRequestException as error:
        assert error.data.attr == "properties", error.data
    else:
        raise AssertionError("what is no JSON must be refused")
