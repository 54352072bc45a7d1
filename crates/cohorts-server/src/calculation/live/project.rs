//! The cohorts of a project as the passes know them: kept in memory, and brought to the rows before each pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::Moment;
use cohorts_engine::delta::{Definition, Definitions, EvaluationState, Position, Settings};
use cohorts_store::live::{self, LiveRow};
use cohorts_store::{CohortId, ProjectId, members, projects};
use roaring::RoaringBitmap;

use super::state::{definition_of, settings_of, state_of};
use crate::calculation::moment;
use crate::index::IndexResult;
use crate::index::memory::Reservation;
use crate::index::snapshot::Snapshot;
use crate::pauses::DoublingPause;

/// A departure within this time of the last one counts as its repetition.
const SOON: Duration = Duration::from_secs(120);
/// The pause before the calculation of a cohort that has left the passes, by its repetitions.
const PAUSE: DoublingPause = DoublingPause {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(60),
};

/// When a cohort left the passes for the last time, and how often it had done so soon before.
#[derive(Clone, Copy, Debug)]
struct Departure {
    last: Instant,
    repetitions: u32,
}

/// A cohort that passes include.
pub struct LiveCohort {
    pub row: LiveRow,
    definition: Definition,
    pub definitions: Definitions,
    /// `None` if the members are to be read again.
    pub members: Option<RoaringBitmap>,
    pub state: EvaluationState,
    /// The position in the row of the cohort.
    pub stored: Position,
    /// Before this instant, time alone changes no member; `None` if it is not known.
    pub next_change: Option<i64>,
}

/// The cohorts of a project, and up to where they are right.
pub struct LiveProject {
    project: ProjectId,
    /// Up to where live cohorts were right when this process took the project.
    taken: Position,
    pub cohorts: BTreeMap<i64, LiveCohort>,
    /// The rows of all cohorts at the last pass.
    rows: BTreeMap<i64, LiveRow>,
    departures: HashMap<i64, Departure>,
    position: Option<Position>,
    /// The memory of the members.
    memory: Option<Reservation>,
}

/// Up to where the live cohorts of a project are right, for the thread that renews the lease.
#[derive(Default)]
pub struct LiveProgress {
    pub position: Option<Position>,
    /// If nothing is written, the members stay right until then.
    pub quiet_until: Option<i64>,
    /// The last instant up to which members were right, in this process or in another one. If the clock was set back, the
    /// next pass is as of this instant.
    earliest: i64,
}

impl LiveProgress {
    /// The progress of a process that has taken the project.
    pub fn since(taken: Position) -> Self {
        Self {
            earliest: taken.now,
            ..Self::default()
        }
    }

    pub fn set(&mut self, position: Option<Position>, quiet_until: Option<i64>) {
        (self.position, self.quiet_until) = (position, quiet_until);
        if let Some(position) = position {
            self.confirm(position.now);
        }
    }

    /// Records that members were right as of an instant.
    pub fn confirm(&mut self, instant: i64) {
        self.earliest = self.earliest.max(instant);
    }

    /// The earliest time of the next pass.
    pub fn earliest(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.earliest).unwrap_or_default()
    }
}

impl LiveProject {
    pub fn new(project: ProjectId, taken: Position) -> Self {
        Self {
            project,
            taken,
            cohorts: BTreeMap::new(),
            rows: BTreeMap::new(),
            departures: HashMap::new(),
            position: None,
            memory: None,
        }
    }

    pub fn project(&self) -> ProjectId {
        self.project
    }

    /// Up to where all live cohorts are right; `None` before the first pass.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Brings the cohorts to the rows that the snapshot sees, and returns the settings of the project.
    pub fn refresh(
        &mut self,
        snapshot: &Snapshot<'_, '_>,
        clock: DateTime<Utc>,
    ) -> IndexResult<Settings> {
        let project = self.project;
        let (row, rows) = snapshot.tx().with_conn(|conn| {
            let row = projects::find(conn, project)?;
            Ok::<_, cohorts_store::Error>((row, live::rows(conn, project)?))
        })?;
        let row = row.ok_or(crate::index::IndexError::ProjectNotFound)?;
        let at = moment(&row, clock.timestamp_micros()).map_err(cohorts_store::Error::from)?;
        let rows: BTreeMap<i64, LiveRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        let changed = self.changed(&rows);
        self.rows = rows;
        let rows = &self.rows;
        self.cohorts
            .retain(|id, _| rows.get(id).is_some_and(can_advance));
        self.reload(snapshot, &at)?;
        for cohort in self.cohorts.values_mut() {
            if cohort
                .definitions
                .cohort_ids()
                .any(|id| changed.contains(&id))
            {
                let definition = cohort.definition.clone();
                cohort.definitions = Definitions::read(definition, snapshot, &at)?;
                cohort.next_change = None;
            }
        }
        Ok(settings_of(&row, clock))
    }

    /// The cohorts with another definition, kind or list of members than at the last pass.
    fn changed(&self, rows: &BTreeMap<i64, LiveRow>) -> BTreeSet<i64> {
        let key = |row: &LiveRow| {
            let list = row.is_static.then_some((row.member_version, row.attempt));
            (row.deleted, row.pending_version, list)
        };
        let ids = rows.keys().chain(self.rows.keys());
        let differs = |id: &&i64| rows.get(id).map(key) != self.rows.get(id).map(key);
        ids.filter(differs).copied().collect()
    }

    /// Loads the cohorts that are new, were calculated, or have members that no pass has published.
    fn reload(&mut self, snapshot: &Snapshot<'_, '_>, at: &Moment) -> IndexResult<()> {
        let is_known = |row: &LiveRow| {
            let known = self.cohorts.get(&row.id);
            known.is_some_and(|known| {
                let LiveRow { is_live, .. } = known.row;
                LiveRow {
                    is_live,
                    ..row.clone()
                } == known.row
            })
        };
        let rows = self.rows.values().filter(|row| can_advance(row));
        let new: Vec<i64> = rows
            .filter(|row| !is_known(row))
            .map(|row| row.id)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let loaded = snapshot.tx().with_conn(|conn| live::load(conn, &new))?;
        for (cohort, evaluation) in loaded {
            let known = self.cohorts.remove(&cohort.id);
            let Some((definition, mut state)) =
                definition_of(&cohort).zip(state_of(evaluation.as_ref()))
            else {
                continue;
            };
            let row = self.rows[&cohort.id].clone();
            let definitions = Definitions::read(definition.clone(), snapshot, at)?;
            let stored = state.position;
            state.position = self.start(&row, stored, known.as_ref());
            let loaded = LiveCohort {
                row,
                definition,
                definitions,
                members: None,
                state,
                stored,
                next_change: None,
            };
            self.cohorts.insert(cohort.id, loaded);
        }
        Ok(())
    }

    /// Where the next pass begins for a cohort with a state as of `stored`. A position that is too early costs time only.
    fn start(&self, row: &LiveRow, stored: Position, known: Option<&LiveCohort>) -> Position {
        if let Some(known) = known {
            // Persons were removed; nothing was evaluated.
            let is_same =
                known.stored == stored && known.row.pending_version == row.pending_version;
            return if is_same {
                known.state.position
            } else {
                stored
            };
        }
        if row.is_live {
            stored.advanced(self.taken.now, stored.seq.max(self.taken.seq))
        } else {
            stored
        }
    }

    /// The published members of a cohort.
    pub fn members(&mut self, id: i64, snapshot: &Snapshot<'_, '_>) -> IndexResult<RoaringBitmap> {
        let shard_key = self.project.shard_key();
        let Some(cohort) = self.cohorts.get_mut(&id) else {
            return Ok(RoaringBitmap::new());
        };
        if let Some(members) = cohort.members.take() {
            return Ok(members);
        }
        let version = cohort.row.member_version;
        let read = |conn: &mut _| members::read(conn, shard_key, CohortId(id), version);
        snapshot.tx().with_conn(read)
    }

    /// Takes a cohort out of the passes. Returns the pause before its calculation.
    pub fn leave(&mut self, id: i64) -> Duration {
        self.cohorts.remove(&id);
        // A later pass must not take the row for the known one.
        self.rows.remove(&id);
        let earlier = self.departures.get(&id);
        let earlier = earlier.filter(|departure| departure.last.elapsed() < SOON);
        let repetitions = earlier.map_or(0, |departure| departure.repetitions.saturating_add(1));
        let last = Instant::now();
        self.departures.insert(id, Departure { last, repetitions });
        PAUSE.after(repetitions.into())
    }

    /// Finds up to where all live cohorts are right, after a pass that has reached `reached`.
    pub fn settle(&mut self, reached: Position) {
        let positions = self.cohorts.values().map(|cohort| cohort.state.position);
        let first = |a: Position, b: Position| Position {
            now: a.now.min(b.now),
            seq: a.seq.min(b.seq),
        };
        self.position = Some(positions.fold(reached, first));
    }

    /// Whether the next change of each cohort is known.
    pub fn knows_next_change(&self) -> bool {
        (self.cohorts.values()).all(|cohort| cohort.next_change.is_some())
    }

    /// The first of the known instants before which time alone changes no member.
    pub fn next_change(&self) -> i64 {
        let instants = self
            .cohorts
            .values()
            .filter_map(|cohort| cohort.next_change);
        instants.min().unwrap_or(i64::MAX)
    }

    /// Finds the instants that are not known, until `is_interrupted`. Returns whether all are known; they are not if
    /// something was written since the pass.
    pub fn find_next_changes(
        &mut self,
        snapshot: &Snapshot<'_, '_>,
        is_interrupted: impl Fn() -> bool,
    ) -> IndexResult<bool> {
        for cohort in self.cohorts.values_mut() {
            let EvaluationState {
                position, settings, ..
            } = &cohort.state;
            if position.seq != snapshot.seq() || is_interrupted() {
                return Ok(false);
            }
            if cohort.next_change.is_none()
                && let Some(at) = settings.moment(position.now)
            {
                cohort.next_change = Some(cohort.definitions.next_change(snapshot, &at)?);
            }
        }
        Ok(true)
    }

    /// Counts the memory of the members until the next call.
    pub fn set_memory(&mut self, memory: Reservation) {
        self.memory = Some(memory);
    }

    /// Drops members until those in memory take at most `budget` bytes, and returns what they take.
    pub fn limit_members(&mut self, budget: u64) -> usize {
        let mut bytes = 0;
        for cohort in self.cohorts.values_mut() {
            let size = cohort
                .members
                .as_ref()
                .map_or(0, RoaringBitmap::serialized_size);
            if (bytes + size) as u64 > budget {
                cohort.members = None;
            } else {
                bytes += size;
            }
        }
        bytes
    }
}

/// Whether a pass can advance the members of a cohort, as far as the row tells.
fn can_advance(row: &LiveRow) -> bool {
    !row.is_static && !row.deleted && !row.is_calculating && row.errors_calculating == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cohort_that_leaves_the_passes_again_and_again_waits_longer_each_time() {
        let mut live = LiveProject::new(ProjectId(1), Position { now: 0, seq: 0 });
        let pauses = [(); 7].map(|()| live.leave(5).as_secs());
        assert_eq!(pauses, [0, 5, 10, 20, 40, 60, 60]);
        assert_eq!(live.leave(6), Duration::ZERO, "another cohort");
    }
}
