// Uses the client that OpenAPI Generator generates in Go from the contract, against the service at COHORTS_URL.
// `.ci/clients` describes the calls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strings"

	cohorts "cohorts.example/openapi/cohorts"
)

const project = "@current"

var (
	ctx    = context.WithValue(context.Background(), cohorts.ContextAccessToken, os.Getenv("COHORTS_KEY"))
	client = newClient()
)

func newClient() *cohorts.APIClient {
	configuration := cohorts.NewConfiguration()
	configuration.Servers = cohorts.ServerConfigurations{{URL: os.Getenv("COHORTS_URL")}}
	return cohorts.NewAPIClient(configuration)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func holds(condition bool, actual any) {
	if !condition {
		text, _ := json.Marshal(actual)
		log.Panicf("%s", text)
	}
}

func listPages() {
	first, _, err := client.CohortsAPI.CohortsList(ctx, project).Limit(2).Execute()
	check(err)
	holds(first.Count >= 8 && len(first.Results) == 2, first)
	holds(first.Previous.Get() == nil && strings.Contains(*first.Next.Get(), "offset=2"), first)
	second, _, err := client.CohortsAPI.CohortsList(ctx, project).Limit(2).Offset(2).Execute()
	check(err)
	holds(second.Results[0].Id != first.Results[0].Id, second)
}

func person(key, operator string, value cohorts.FilterValue) cohorts.FilterNode {
	return cohorts.PersonLeafAsFilterNode(cohorts.NewPersonLeaf("person", key, operator, value))
}

func create() {
	pro := person("plan", "exact", cohorts.FilterValue{String: cohorts.PtrString("pro")})
	older := person("age", "gt", cohorts.FilterValue{Float64: cohorts.PtrFloat64(16777217)})
	group := cohorts.NewFilterGroup("AND", []cohorts.FilterNode{pro, older})
	fields := cohorts.NewCohortCreate()
	fields.SetName("Pros")
	fields.SetFilters(*cohorts.NewCohortFilters(cohorts.FilterGroupAsCohortFiltersProperties(group)))
	cohort, _, err := client.CohortsAPI.CohortsCreate(ctx, project).CohortCreate(*fields).Execute()
	check(err)
	holds(cohort.GetName() == "Pros" && !cohort.IsStatic, cohort)
	values := cohort.Filters.Properties["values"].([]any)
	holds(values[1].(map[string]any)["value"] == 16777217.0, cohort)
	holds(cohort.Query == nil && cohort.Count.Get() == nil && cohort.CreatedBy.Get().Email != "", cohort)

	change := cohorts.NewPatchedCohort()
	change.SetNameNil()
	changed, response, err := client.CohortsAPI.CohortsPartialUpdate(ctx, project, cohort.Id).
		PatchedCohort(*change).Execute()
	check(err)
	holds(changed.Name.Get() == nil, changed)
	laterVersion(response)
}

// A later version of the service returns a field that this client does not know.
func laterVersion(response *http.Response) {
	var fields map[string]any
	check(json.NewDecoder(response.Body).Decode(&fields))
	fields["later"] = map[string]any{"is": "kept"}
	text, err := json.Marshal(fields)
	check(err)
	var read cohorts.Cohort
	check(json.Unmarshal(text, &read))
	holds(read.AdditionalProperties["later"] != nil, read)
}

func members() []string {
	page, _, err := client.CohortsAPI.CohortsPersonsRetrieve(ctx, project, 1).Limit(3).Execute()
	check(err)
	holds(len(page.Results) == 3 && page.Next.Get() != nil, page)
	first := page.Results[0]
	holds(first.Properties["email"] == first.Name && first.ValueAtDataPoint.Get() == nil, first)
	ids := []string{}
	for _, person := range page.Results {
		ids = append(ids, person.Id)
	}
	return ids
}

func addPersons(persons []string) {
	fields := cohorts.NewCohortCreate()
	fields.SetName("By hand")
	fields.SetIsStatic(true)
	cohort, _, err := client.CohortsAPI.CohortsCreate(ctx, project).CohortCreate(*fields).Execute()
	check(err)
	added := cohorts.NewPersonsToAdd()
	added.SetPersonIds(persons)
	done, _, err := client.MembersAPI.CohortsAddPersonsToStaticCohortPartialUpdate(ctx, project, cohort.Id).
		PersonsToAdd(*added).Execute()
	check(err)
	holds(done.Success, done)
	after, _, err := client.CohortsAPI.CohortsRetrieve(ctx, project, cohort.Id).Execute()
	check(err)
	holds(*after.Count.Get() == int64(len(persons)), after)
}

func capture() {
	projects, _, err := client.ProjectsAPI.ProjectsList(ctx).Execute()
	check(err)
	event := cohorts.NewCaptureEvent("signed up")
	event.SetDistinctId("ana")
	event.SetProperties(map[string]any{"$set": map[string]any{"language": "pt"}})
	batch := cohorts.NewCaptureBatch([]cohorts.CaptureEvent{*event})
	batch.SetApiKey(projects.Results[0].ApiToken)
	answer, _, err := client.CaptureAPI.CaptureBatch(ctx).CaptureBatch(*batch).Execute()
	check(err)
	holds(answer.Status == "Ok", answer)
}

// The error of a response, as the contract describes it.
func described(err error) cohorts.Error {
	var failure *cohorts.GenericOpenAPIError
	holds(errors.As(err, &failure), err)
	return failure.Model().(cohorts.Error)
}

func rejections() {
	_, _, err := client.CohortsAPI.CohortsPersonsRetrieve(ctx, project, 1).Properties("no JSON").Execute()
	rejected := described(err)
	holds(*rejected.Code.String == "invalid_input" && *rejected.Attr.Get() == "properties", rejected)
	_, _, err = client.CohortsAPI.CohortsRetrieve(ctx, project, 999999).Execute()
	missing := described(err)
	holds(*missing.Code.String == "not_found" && missing.Attr.Get() == nil, missing)
}

func main() {
	listPages()
	create()
	addPersons(members())
	capture()
	rejections()
}
