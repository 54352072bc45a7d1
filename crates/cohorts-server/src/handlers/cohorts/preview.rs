//! Counts the members that a filter or a query would have, and compares them with a cohort, without storing one.

use std::time::Instant;

use chrono::{DateTime, Utc};
use cohorts_api::types::{CohortPreview, CohortPreviewRequest, CriterionCount, Person};
use cohorts_engine::delta::Definition as Rule;
use cohorts_engine::filter::{has_criteria, read_json};
use cohorts_engine::{Explanation, Filter, FilterError, LeafCache, LeafCount, Plan};
use cohorts_store::{CohortId, Conn, ProjectId};
use roaring::RoaringBitmap;

use super::compare::{self, MemberDifference};
use super::{definition, references};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::present;
use crate::index::IndexedStore;
use crate::index::ranking::RankedPersons;
use crate::index::references::CheckedCohorts;
use crate::index::snapshot::Snapshot;
use crate::index::stop::StopFlag;

pub struct Preview {
    project: ProjectId,
    plan: Plan,
    /// The field with the definition: `filters` or `query`.
    attr: &'static str,
    as_of: DateTime<Utc>,
    /// The number of members to show.
    sample: i64,
    compare_to: Option<CohortId>,
}

impl Preview {
    pub fn new(caller: &Caller, body: &CohortPreviewRequest) -> Result<Self, Error> {
        let as_of = body.as_of.unwrap_or_else(Utc::now);
        let at = moment(&caller.project, as_of.timestamp_micros())?;
        let rule = rule(body)?;
        let attr = match rule {
            Rule::Filter(_) => "filters",
            Rule::Query(_) => "query",
        };
        Ok(Self {
            project: caller.project.id(),
            plan: rule.plan(&at).map_err(|error| Error::filter(attr, error))?,
            attr,
            as_of,
            sample: body.sample,
            compare_to: body.compare_to.map(CohortId),
        })
    }

    /// Evaluates the plan until `stop` is set.
    pub fn read(
        &self,
        conn: &mut Conn,
        store: &IndexedStore,
        stop: &StopFlag,
    ) -> Result<CohortPreview, Error> {
        let start = Instant::now();
        store.read_for_request(conn, self.project, &self.plan, |snapshot| {
            let snapshot = &snapshot.with_stop(stop);
            let Explanation { members, leaves } = self.evaluate(snapshot)?;
            let compared = match self.compare_to {
                Some(id) => {
                    let others = compare::members_of(snapshot, id, self.plan.moment())?;
                    Some(MemberDifference::between(&others, &members))
                }
                None => None,
            };
            let duration = start.elapsed();
            let count = members.len() as i64;
            let counts = compared.as_ref().map(MemberDifference::counts);
            let (entering, leaving) = compared
                .map(|compared| (compared.entering, compared.leaving))
                .unzip();
            let sample_of = |persons: Option<RoaringBitmap>| {
                persons.map(|persons| self.sample(snapshot, store, persons))
            };
            Ok(CohortPreview {
                count,
                criteria: leaves.into_iter().map(criterion).collect(),
                as_of: self.as_of,
                duration_ms: duration.as_secs_f64() * 1e3,
                sample: self.sample(snapshot, store, members)?,
                compared: counts,
                entering_sample: sample_of(entering).transpose()?,
                leaving_sample: sample_of(leaving).transpose()?,
            })
        })
    }

    /// The members, and the number of persons of each criterion. A query is one criterion.
    fn evaluate(&self, snapshot: &Snapshot<'_, '_>) -> Result<Explanation, Error> {
        let (plan, is_query) = (&self.plan, self.attr == "query");
        if is_query {
            let cohorts: Vec<i64> = plan.cohort_references().into_iter().collect();
            let check = |conn: &mut Conn| references::check_query(conn, self.project, &cohorts);
            snapshot.tx().try_with_conn(check)?;
        }
        snapshot
            .check_references(plan, &mut CheckedCohorts::default())
            .map_err(|cause| Error::reference(self.attr, cause))?;
        if !is_query {
            return Ok(snapshot.explain(plan)?);
        }
        let members = snapshot.evaluate(plan, &LeafCache::default())?;
        let whole = LeafCount {
            path: self.attr.to_owned(),
            persons: members.len(),
        };
        Ok(Explanation {
            members,
            leaves: vec![whole],
        })
    }

    /// The newest of some persons.
    fn sample(
        &self,
        snapshot: &Snapshot<'_, '_>,
        store: &IndexedStore,
        persons: RoaringBitmap,
    ) -> Result<Vec<Person>, Error> {
        if self.sample == 0 || persons.is_empty() {
            return Ok(Vec::new());
        }
        let shard_key = self.project.shard_key();
        Ok(snapshot.tx().with_conn(|conn| {
            let ranking = store.ranking_for_request(conn, self.project)?;
            let persons = RankedPersons::new(&store.caches, ranking, Some(persons));
            present::first_persons(conn, shard_key, &persons, self.sample)
        })?)
    }
}

fn criterion(leaf: LeafCount) -> CriterionCount {
    CriterionCount {
        path: leaf.path,
        count: leaf.persons as i64,
    }
}

/// The filter or the query of a request. As for a cohort, filters without criteria count as absent if there is a query.
fn rule(body: &CohortPreviewRequest) -> Result<Rule, Error> {
    let invalid = |error: FilterError| Error::filter("filters", error);
    let filters = body.filters.as_ref();
    let filters = filters.map(|filters| read_json(filters.as_str(), "properties"));
    match (filters.transpose().map_err(invalid)?, &body.query) {
        (Some(filters), Some(_)) if has_criteria(&filters) => Err(definition::query_and_filters()),
        (_, Some(query)) => Ok(Rule::Query(definition::query_value(query)?)),
        (Some(filters), None) => Ok(Rule::Filter(Filter::parse(&filters).map_err(invalid)?)),
        (None, None) => Err(Error::Validation {
            attr: Some("filters".to_owned()),
            code: "required",
            detail: "This field is required; send `filters` or `query`.".to_owned(),
        }),
    }
}
