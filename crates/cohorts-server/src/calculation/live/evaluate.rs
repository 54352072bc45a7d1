//! One evaluation of the cohorts of a project: finds the touched persons once, and advances the members of each cohort.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cohorts_engine::delta::{EvaluationState, Needs, Pass, Position, Settings};
use cohorts_engine::{LeafCache, Plan};
use roaring::RoaringBitmap;

use super::project::LiveProject;
use crate::index::snapshot::Snapshot;
use crate::index::{IndexError, IndexResult};
use cohorts_store::changes::Cause;
use cohorts_store::events;

/// With more events between two positions, full evaluations are cheaper.
const MAX_EVENTS: i64 = 100_000;

/// What an evaluation has found. The cohorts without a change are advanced already.
pub struct PassResult {
    pub reached: Position,
    pub changed: Vec<ChangedCohort>,
    /// The cohorts that are to be evaluated fully, each with the reason.
    pub fallen: Vec<(i64, &'static str)>,
    /// The persons that were evaluated for at least one cohort.
    pub touched: u64,
}

/// A cohort with other members than before.
pub struct ChangedCohort {
    pub id: i64,
    pub before: RoaringBitmap,
    pub after: RoaringBitmap,
    pub state: EvaluationState,
    pub cause: Cause,
}

/// The touched persons of a cohort, and its state after the pass.
struct TouchedCohort {
    persons: RoaringBitmap,
    state: EvaluationState,
    plan: Plan,
}

impl LiveProject {
    /// Advances all cohorts to the snapshot at `clock`.
    pub fn evaluate(
        &mut self,
        snapshot: &Snapshot<'_, '_>,
        clock: i64,
        settings: &Settings,
    ) -> IndexResult<PassResult> {
        let mut evaluated = PassResult {
            reached: Position {
                now: clock,
                seq: snapshot.seq(),
            },
            changed: Vec::new(),
            fallen: Vec::new(),
            touched: 0,
        };
        let mut groups: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
        for (id, cohort) in &self.cohorts {
            let Position { now, seq } = cohort.state.position;
            groups.entry((now, seq)).or_default().push(*id);
        }
        let mut touched = BTreeMap::new();
        for ((now, seq), ids) in groups {
            let from = Position { now, seq };
            let found = self.find(snapshot, from, clock, &ids, settings, &mut evaluated.fallen);
            touched.extend(or_fallen(found, &ids, &mut evaluated.fallen)?.unwrap_or_default());
        }
        self.advance(snapshot, touched, &mut evaluated)?;
        Ok(evaluated)
    }

    /// The outcome of a pass that was too long: all cohorts are to be evaluated fully.
    pub fn all_fallen(&self, reason: &'static str, clock: DateTime<Utc>) -> PassResult {
        let reached = Position {
            now: clock.timestamp_micros(),
            seq: self.position().map_or(0, |position| position.seq),
        };
        PassResult {
            reached,
            changed: Vec::new(),
            fallen: self.cohorts.keys().map(|id| (*id, reason)).collect(),
            touched: 0,
        }
    }

    /// Finds the touched persons of cohorts with the same position. Cohorts without any are advanced.
    fn find(
        &mut self,
        snapshot: &Snapshot<'_, '_>,
        from: Position,
        clock: i64,
        ids: &[i64],
        settings: &Settings,
        fallen: &mut Vec<(i64, &'static str)>,
    ) -> IndexResult<BTreeMap<i64, TouchedCohort>> {
        let to = from.advanced(clock, snapshot.seq());
        let (tx, span) = (snapshot.tx(), (from.seq, to.seq));
        let is_long = span.0 < span.1
            && tx.with_conn(|conn| {
                events::are_more_between(conn, tx.shard_key(), span, MAX_EVENTS)
            })?;
        if is_long {
            fallen.extend(ids.iter().map(|id| (*id, "touched")));
            return Ok(BTreeMap::new());
        }
        let mut pass = Pass::new(snapshot, from, to, settings);
        let mut needs: Vec<(i64, Needs)> = Vec::with_capacity(ids.len());
        for id in ids {
            let cohort = &self.cohorts[id];
            let next = cohort.next_change;
            needs.push((
                *id,
                pass.add(&cohort.definitions, Some(&cohort.state), next),
            ));
        }
        let changes = pass.find()?;
        let moment = settings.moment(to.now);
        let mut touched = BTreeMap::new();
        for (id, needs) in needs {
            let Some(cohort) = self.cohorts.get_mut(&id) else {
                continue;
            };
            match changes.touched(&needs) {
                Ok(persons) if persons.is_empty() => {
                    cohort.state = needs.state().clone();
                    cohort.next_change = cohort.next_change.filter(|next| *next > to.now);
                }
                Ok(persons) => {
                    let plan = moment
                        .as_ref()
                        .and_then(|at| cohort.definitions.plan(at).ok());
                    let Some(plan) = plan else {
                        fallen.push((id, "plan"));
                        continue;
                    };
                    let state = needs.state().clone();
                    touched.insert(
                        id,
                        TouchedCohort {
                            persons,
                            state,
                            plan,
                        },
                    );
                }
                Err(reason) => fallen.push((id, reason.label())),
            }
        }
        Ok(touched)
    }

    /// Evaluates the cohorts for their touched persons.
    fn advance(
        &mut self,
        snapshot: &Snapshot<'_, '_>,
        touched: BTreeMap<i64, TouchedCohort>,
        evaluated: &mut PassResult,
    ) -> IndexResult<()> {
        let mut all = RoaringBitmap::new();
        touched.values().for_each(|touched| all |= &touched.persons);
        evaluated.touched = all.len();
        let leaves = LeafCache::within(touched.values().map(|touched| &touched.plan), all);
        for (
            id,
            TouchedCohort {
                persons,
                state,
                plan,
            },
        ) in touched
        {
            let before = self.members(id, snapshot)?;
            let advance = snapshot.advance(&plan, &before, &persons, &leaves);
            let Some(advance) = or_fallen(advance, &[id], &mut evaluated.fallen)? else {
                continue;
            };
            let Some(cohort) = self.cohorts.get_mut(&id) else {
                continue;
            };
            if advance.is_empty() {
                cohort.members = Some(before);
                cohort.state = state;
                cohort.next_change = None;
                continue;
            }
            let mut after = before.clone();
            advance.apply(&mut after);
            let is_data = cohort.state.position.seq < state.position.seq;
            evaluated.changed.push(ChangedCohort {
                id,
                before,
                after,
                state,
                cause: if is_data { Cause::Data } else { Cause::Time },
            });
        }
        Ok(())
    }
}

/// The result; or `None` if it exceeds the limits of a pass. Then the cohorts are to be calculated by the queue.
fn or_fallen<T>(
    result: IndexResult<T>,
    ids: &[i64],
    fallen: &mut Vec<(i64, &'static str)>,
) -> IndexResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(IndexError::OverBudget) => {
            fallen.extend(ids.iter().map(|id| (*id, "memory")));
            Ok(None)
        }
        Err(cause) => Err(cause),
    }
}
