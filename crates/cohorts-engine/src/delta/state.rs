//! The state of an evaluation, and whether its members can be advanced to a later state.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use serde::{Deserialize, Serialize};

use crate::window::Moment;

/// The number of the language's meaning. It increases with each change of the members that a
/// definition has over the same data, so that members of an older program are evaluated again.
pub const SEMANTICS: u32 = 1;

/// A place in the history of a project: an instant, and a position of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The instant that counts as "now", in microseconds since the Unix epoch.
    pub now: i64,
    /// The sequence number of the last write of the log that counts.
    pub seq: i64,
}

impl Position {
    /// The position at which the clock shows `clock` and the log ends with `seq`. If the clock went
    /// back, the instant stays the same, because an evaluation never goes back in time.
    ///
    /// ```
    /// use cohorts_engine::delta::Position;
    ///
    /// let then = Position { now: 5_000_000, seq: 7 };
    /// assert_eq!(then.advanced(4_000_000, 8), Position { now: 5_000_000, seq: 8 });
    /// ```
    pub fn advanced(self, clock: i64, seq: i64) -> Position {
        Position {
            now: self.now.max(clock),
            seq,
        }
    }
}

/// A number that identifies a value by its JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a value. If a later release of the compiler hashes differently, the
    /// fingerprints differ, and the members are evaluated fully once.
    pub fn of(value: &impl Serialize) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        hasher.write(&serde_json::to_vec(value).unwrap_or_default());
        Fingerprint(hasher.finish())
    }
}

/// The settings of a project that its members depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The IANA name of the time zone.
    pub time_zone: String,
    /// The filters of test accounts.
    pub test_accounts: Fingerprint,
    /// The days that events are kept; `None` means without limit.
    pub retention_days: Option<i64>,
    /// Events before this instant were deleted by retention, in microseconds since the Unix epoch.
    pub deleted_before: Option<i64>,
}

impl Settings {
    /// The moment of an instant in the time zone of the project; `None` if there is no such zone.
    pub fn moment(&self, now: i64) -> Option<Moment> {
        Moment::new(now, &self.time_zone)
    }
}

/// What the members of a cohort were calculated from. A caller stores it with the members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationState {
    /// The instant and the position of the log.
    pub position: Position,
    /// [`SEMANTICS`] of the program.
    pub semantics: u32,
    /// The settings of the project.
    pub settings: Settings,
    pub(super) definition: Fingerprint,
    /// The cohorts that the definition refers to, directly and through other cohorts.
    pub(super) cohorts: BTreeMap<i64, CohortState>,
    /// The actions of all these definitions; `None` means that the action does not exist.
    pub(super) actions: BTreeMap<i64, Option<Fingerprint>>,
}

/// What a reference to a cohort led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CohortState {
    /// The cohort does not exist, or its criteria cannot be read.
    Missing,
    /// A static cohort with this version of its members.
    Members(i64),
    /// A dynamic cohort.
    Filter(Fingerprint),
}

/// Why a cohort must be evaluated for all persons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FullReason {
    /// The cohort was never evaluated, or its state is unknown.
    NoState,
    /// The members are those of a program with another [`SEMANTICS`].
    Semantics,
    /// The definition was edited.
    Definition,
    /// A referenced cohort was created, deleted, restored or edited, changed its kind, failed or
    /// recovered.
    Reference,
    /// An action was created, deleted, restored or edited.
    Action,
    /// The time zone, the filters of test accounts or the retention of the project changed.
    Settings,
    /// Retention deleted events.
    Retention,
    /// The state is not that from which the pass begins, or is later than its end.
    Position,
    /// The definition cannot be planned at one of the two instants.
    Plan,
    /// The plans of the two instants do not compare with the same number of instants.
    Instants,
    /// The index cannot identify the persons with a date.
    Dates,
    /// Too many persons are touched.
    Touched,
}

impl FullReason {
    /// A word for logs and for the label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            FullReason::NoState => "no_state",
            FullReason::Semantics => "semantics",
            FullReason::Definition => "definition",
            FullReason::Reference => "reference",
            FullReason::Action => "action",
            FullReason::Settings => "settings",
            FullReason::Retention => "retention",
            FullReason::Position => "position",
            FullReason::Plan => "plan",
            FullReason::Instants => "instants",
            FullReason::Dates => "dates",
            FullReason::Touched => "touched",
        }
    }
}

impl EvaluationState {
    /// Whether only the instant, the log and the members of static cohorts have advanced from this
    /// state to `now`.
    ///
    /// # Errors
    ///
    /// Returns the first difference that requires a full evaluation.
    pub fn check_advance(&self, now: &EvaluationState) -> Result<(), FullReason> {
        let settings = |state: &EvaluationState| Settings {
            deleted_before: None,
            ..state.settings.clone()
        };
        let (from, to) = (self.position, now.position);
        let differences = [
            (self.semantics != now.semantics, FullReason::Semantics),
            (self.definition != now.definition, FullReason::Definition),
            (settings(self) != settings(now), FullReason::Settings),
            (
                self.settings.deleted_before != now.settings.deleted_before,
                FullReason::Retention,
            ),
            (self.actions != now.actions, FullReason::Action),
            (!self.has_same_references(now), FullReason::Reference),
            (to.now < from.now || to.seq < from.seq, FullReason::Position),
        ];
        match differences.into_iter().find(|(differs, _)| *differs) {
            Some((_, reason)) => Err(reason),
            None => Ok(()),
        }
    }

    /// Whether the references are equal, except for the versions of static cohorts.
    fn has_same_references(&self, now: &EvaluationState) -> bool {
        let is_same = |then: &CohortState, now: &CohortState| match (then, now) {
            (CohortState::Members(_), CohortState::Members(_)) => true,
            (then, now) => then == now,
        };
        self.cohorts.len() == now.cohorts.len()
            && self.cohorts.iter().all(|(id, then)| {
                let now = now.cohorts.get(id);
                now.is_some_and(|now| is_same(then, now))
            })
    }
}
