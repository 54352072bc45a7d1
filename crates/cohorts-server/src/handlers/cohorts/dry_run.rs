//! A change of a cohort that is validated, compared and not made.
//!
//! The change runs in a transaction that is rolled back. Both definitions are then evaluated over one snapshot.

use std::time::Duration;

use chrono::Utc;
use cohorts_api::types::{Cohort, CohortComparison, PatchedCohort};
use cohorts_api::{Patch, RequestHead};
use cohorts_engine::{Moment, Plan, plan_query};
use cohorts_store::cohorts;
use cohorts_store::{CohortId, Conn, transaction};
use form_urlencoded::parse;
use roaring::RoaringBitmap;

use super::change::change;
use super::compare::{self, MemberDifference};
use super::entity_tag::{EntityTag, IfMatch, TaggedCohort};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::links::SECRETS;
use crate::index::IndexedStore;
use crate::index::snapshot::Snapshot;

/// The time to read the members of static cohorts.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The parameter of a dry run.
const DRY_RUN: &str = "dry_run";

/// Refuses parameters that a change of a cohort does not have, so that a spelling error never makes a dry run a change.
pub fn check_parameters(head: &RequestHead) -> Result<(), Error> {
    for (name, _) in parse(head.query().as_bytes()) {
        if name != DRY_RUN && !SECRETS.contains(&name.to_lowercase().as_str()) {
            let detail = format!(
                "Unknown query parameter. A change of a cohort has only `{DRY_RUN}`; leave the others out."
            );
            return Err(Error::field(&name, detail));
        }
    }
    Ok(())
}

/// The rows of a cohort before and after a change that was rolled back.
struct UnmadeChange {
    before: cohorts::Cohort,
    after: cohorts::Cohort,
    /// The cohort after the change, as a response shows it.
    shown: Cohort,
    has_query: bool,
}

/// Why a transaction is rolled back.
enum Rollback {
    Failed(Error),
    Finished(Box<UnmadeChange>),
}

impl From<cohorts_store::Error> for Rollback {
    fn from(cause: cohorts_store::Error) -> Self {
        Self::Failed(cause.into())
    }
}

/// The cohort as it would be after a change, with the effect on its members and the tag that it has.
pub fn read(
    conn: &mut Conn,
    store: &IndexedStore,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
    if_match: &IfMatch,
) -> Result<TaggedCohort, Error> {
    let undone = transaction(conn, |conn| {
        match unmade(conn, caller, id, body, if_match) {
            Ok(unmade) => Err::<(), _>(Rollback::Finished(Box::new(unmade))),
            Err(cause) => Err(Rollback::Failed(cause)),
        }
    });
    let unmade = match undone {
        Err(Rollback::Finished(unmade)) => *unmade,
        Err(Rollback::Failed(cause)) => return Err(cause),
        Ok(()) => return Err(Error::NotFound),
    };
    let compared = unmade.compared(conn, store, caller)?;
    let cohort = Cohort {
        compared: Some(compared),
        ..unmade.shown
    };
    let tag = EntityTag(unmade.before.definition_number);
    Ok(TaggedCohort { cohort, tag })
}

/// Makes a change. The caller rolls it back.
fn unmade(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
    if_match: &IfMatch,
) -> Result<UnmadeChange, Error> {
    let project = caller.project.id();
    let row = |conn: &mut Conn| {
        let row = cohorts::find(conn, project, id)?;
        row.map(|(cohort, _)| cohort).ok_or(Error::NotFound)
    };
    let before = row(conn)?;
    let has_query = matches!(body.query, Patch::Value(_));
    let shown = change(conn, caller, id, body, None, if_match)?.cohort;
    Ok(UnmadeChange {
        before,
        after: row(conn)?,
        shown,
        has_query,
    })
}

impl UnmadeChange {
    fn compared(
        &self,
        conn: &mut Conn,
        store: &IndexedStore,
        caller: &Caller,
    ) -> Result<CohortComparison, Error> {
        let at = moment(&caller.project, Utc::now().timestamp_micros())?;
        let project = self.after.project();
        let read = |snapshot: &Snapshot<'_, '_>| {
            let before = self.members_before(snapshot, &at)?;
            let after = self.members_after(snapshot, &at)?;
            Ok(MemberDifference::between(&before, &after).counts())
        };
        match self.plan(&at)? {
            Some(plan) => store.read_for_request(conn, project, &plan, read),
            None => Snapshot::read(conn, &store.caches.index, project, TIME_LIMIT, read),
        }
    }

    /// The plan that is evaluated, if there is one.
    fn plan(&self, at: &Moment) -> Result<Option<Plan>, Error> {
        let definition = &self.after.definition;
        if !definition.is_static {
            let planned = definition.rule().and_then(|rule| rule.plan(at));
            return Ok(Some(
                planned.map_err(|error| Error::filter("filters", error))?,
            ));
        }
        let before = &self.before.definition;
        Ok(match (&definition.query, before.rule()) {
            (Some(query), _) if self.has_query => plan_query(&query.parse(), at).ok(),
            (_, Ok(rule)) if !before.is_static => rule.plan(at).ok(),
            _ => None,
        })
    }

    /// The members after the change. Those of a static cohort stay, and its query adds members.
    fn members_after(
        &self,
        snapshot: &Snapshot<'_, '_>,
        at: &Moment,
    ) -> Result<RoaringBitmap, Error> {
        if !self.after.definition.is_static {
            return compare::members_at(snapshot, &self.after, at, "filters");
        }
        let mut members = compare::stored(snapshot, &self.before)?;
        if self.has_query {
            members |= compare::members_by_query(snapshot, &self.after, at)?;
        }
        Ok(members)
    }

    /// The members without the change. A definition that cannot be calculated has its stored members.
    fn members_before(
        &self,
        snapshot: &Snapshot<'_, '_>,
        at: &Moment,
    ) -> Result<RoaringBitmap, Error> {
        match compare::members_at(snapshot, &self.before, at, "filters") {
            Err(Error::Validation { .. }) => compare::stored(snapshot, &self.before),
            members => members,
        }
    }
}
