//! Explains whether one person is a member of a cohort, and why.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_api::types::{
    AdditionFound, CohortExplainRequest, CohortExplanation, CriterionExplanation, CriterionFound,
    ExplainedPerson, FoundEvent, MembershipChange,
};
use cohorts_engine::delta::Definition;
use cohorts_engine::explain::{
    ExplainedCriterion, Explainer, Found, FoundEvents, NextChange, PersonEvent, PersonExplanation,
    PersonSource,
};
use cohorts_engine::filter::read_json;
use cohorts_engine::{Filter, FilterError};
use cohorts_store::changes::{self, Entered};
use cohorts_store::cohorts::{self, Cohort};
use cohorts_store::persons::{self, Person};
use cohorts_store::projects::Project;
use cohorts_store::{CohortId, Conn, members};
use uuid::Uuid;

use super::super::lookup::PersonId;
use crate::calculation::moment;
use crate::error::Error;
use crate::index::person::OnePersonReader;
use crate::index::read::{Limits, ReadTx};
use crate::index::references::{self, CheckedCohorts};

/// The time for one explanation.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The membership to explain.
pub struct MembershipQuestion {
    project: Project,
    subject: Subject,
    person: PersonId,
    /// `None` is the time of the explanation.
    as_of: Option<DateTime<Utc>>,
}

enum Subject {
    Saved(CohortId),
    Unsaved(Filter),
}

/// What the stored members say about the person.
struct StoredMembership {
    is_member: bool,
    entered: Option<Entered>,
}

impl MembershipQuestion {
    pub fn of_saved(project: Project, id: CohortId, person: PersonId) -> Self {
        Self {
            project,
            subject: Subject::Saved(id),
            person,
            as_of: None,
        }
    }

    pub fn of_unsaved(project: Project, body: CohortExplainRequest) -> Result<Self, Error> {
        let filters = read_json(body.filters.as_str(), "properties").map_err(invalid)?;
        Ok(Self {
            project,
            subject: Subject::Unsaved(Filter::parse(&filters).map_err(invalid)?),
            person: PersonId::new(body.person_id, body.distinct_id)?,
            as_of: body.as_of,
        })
    }

    /// Answers in one read transaction.
    pub fn read(&self, conn: &mut Conn) -> Result<CohortExplanation, Error> {
        let limits = Limits {
            deadline: Instant::now() + TIME_LIMIT,
            memory: u64::MAX,
        };
        ReadTx::run(conn, self.project.id(), limits, |tx| {
            let cohort = match self.subject {
                Subject::Saved(id) => Some(self.cohort(&tx, id)?),
                Subject::Unsaved(_) => None,
            };
            let shard_key = self.project.id().shard_key();
            let person = tx.try_with_conn(|conn| self.person.row(conn, shard_key))?;
            let stored = cohort.as_ref().map(|cohort| stored(&tx, cohort, &person));
            let stored = stored.transpose()?;
            let mut explanation = match (&cohort, &stored) {
                (Some(cohort), Some(stored)) if cohort.definition.is_static => of_static(stored),
                _ => self.evaluated(&tx, &self.definition(cohort.as_ref())?, &person)?,
            };
            if let Some(stored) = stored {
                explanation.published = Some(stored.is_member == explanation.member);
                let entered = stored.entered.filter(|_| explanation.member);
                explanation.since = entered.map(|entered| entered.at);
            }
            explanation.person = shown(&tx, &person)?;
            Ok(explanation)
        })
    }

    fn cohort(&self, tx: &ReadTx<'_>, id: CohortId) -> Result<Cohort, Error> {
        let row = tx.with_conn(|conn| cohorts::find(conn, self.project.id(), id))?;
        row.map(|(cohort, _)| cohort).ok_or(Error::NotFound)
    }

    fn definition(&self, cohort: Option<&Cohort>) -> Result<Definition, Error> {
        match (&self.subject, cohort) {
            (Subject::Unsaved(filter), _) => Ok(Definition::Filter(filter.clone())),
            (_, Some(cohort)) => cohort.definition.rule().map_err(invalid),
            (Subject::Saved(_), None) => Err(Error::NotFound),
        }
    }

    /// The explanation by an evaluation for the person.
    fn evaluated(
        &self,
        tx: &ReadTx<'_>,
        definition: &Definition,
        person: &Person,
    ) -> Result<CohortExplanation, Error> {
        let as_of = self.as_of.unwrap_or_else(Utc::now);
        let at = moment(&self.project, as_of.timestamp_micros())?;
        let plan = definition.plan(&at).map_err(invalid)?;
        references::check(tx, &plan, &mut CheckedCohorts::default())
            .map_err(|cause| Error::reference("filters", cause))?;
        let source = PersonSource::new(OnePersonReader::new(tx.clone(), person)?);
        let explainer = Explainer::new(definition.clone(), &source, &at)?;
        let PersonExplanation { member, criteria } = explainer.explain(&plan)?;
        let change = explainer.next_change(&at, member)?;
        Ok(CohortExplanation {
            member,
            as_of,
            changes_at: change.map(presented_change),
            criteria: criteria.into_iter().map(criterion).collect(),
            ..empty()
        })
    }
}

/// An explanation of no criteria as of now.
fn empty() -> CohortExplanation {
    CohortExplanation {
        person: ExplainedPerson {
            uuid: Uuid::nil(),
            distinct_ids: Vec::new(),
        },
        member: false,
        as_of: Utc::now(),
        since: None,
        published: None,
        changes_at: None,
        criteria: Vec::new(),
        found: None,
    }
}

/// The explanation of a static cohort, from the stored members and the change log.
fn of_static(stored: &StoredMembership) -> CohortExplanation {
    let entered = stored.entered.clone();
    CohortExplanation {
        member: stored.is_member,
        found: entered.map(|entered| AdditionFound {
            added_at: entered.at,
            cause: entered.cause,
        }),
        ..empty()
    }
}

fn stored(tx: &ReadTx<'_>, cohort: &Cohort, person: &Person) -> Result<StoredMembership, Error> {
    let ordinal = u32::try_from(person.ordinal).map_err(anyhow::Error::from)?;
    let (project, version) = (cohort.project(), cohort.member_version);
    Ok(tx.with_conn(|conn| {
        let is_member =
            members::contains(conn, project.shard_key(), cohort.id(), version, ordinal)?;
        let entered = if is_member {
            changes::last_entered(conn, project, cohort.id(), version, ordinal)?
        } else {
            None
        };
        Ok::<_, cohorts_store::Error>(StoredMembership { is_member, entered })
    })?)
}

fn shown(tx: &ReadTx<'_>, person: &Person) -> Result<ExplainedPerson, Error> {
    let shard_key = tx.shard_key();
    let ids = tx.with_conn(|conn| persons::shown_ids(conn, shard_key, &[person.ordinal]))?;
    Ok(ExplainedPerson {
        uuid: person.uuid,
        distinct_ids: ids.into_values().next().unwrap_or_default(),
    })
}

fn criterion(explained: ExplainedCriterion) -> CriterionExplanation {
    CriterionExplanation {
        path: explained.path,
        holds: explained.holds,
        negated: explained.negated,
        found: found(explained.found),
    }
}

fn found(found: Found) -> CriterionFound {
    let nothing = CriterionFound {
        value: None,
        count: None,
        first_at: None,
        last_at: None,
        events: None,
        cohort_id: None,
        member: None,
        criteria: None,
    };
    match found {
        Found::Value(value) => CriterionFound {
            value: Some(value),
            ..nothing
        },
        Found::Events(FoundEvents {
            count,
            first_at,
            last_at,
            events,
        }) => CriterionFound {
            count: Some(count as i64),
            first_at: first_at.map(instant),
            last_at: last_at.map(instant),
            events: Some(events.into_iter().map(event).collect()),
            ..nothing
        },
        Found::Cohort {
            cohort_id,
            member,
            criteria,
        } => CriterionFound {
            cohort_id: Some(cohort_id),
            member: Some(member),
            criteria: Some(criteria.into_iter().map(criterion).collect()),
            ..nothing
        },
    }
}

fn event(event: PersonEvent) -> FoundEvent {
    FoundEvent {
        uuid: Uuid::from_u128(event.uuid),
        event: event.name,
        timestamp: instant(event.time),
    }
}

fn presented_change(change: NextChange) -> MembershipChange {
    MembershipChange {
        at: instant(change.at),
        member: change.member,
    }
}

fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

fn invalid(error: FilterError) -> Error {
    Error::filter("filters", error)
}
