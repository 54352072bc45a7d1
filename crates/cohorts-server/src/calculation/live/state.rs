//! What a cohort was evaluated from, as the row of the cohort has it.

use chrono::{DateTime, Utc};
use cohorts_engine::Moment;
use cohorts_engine::delta::{
    Definition, Definitions, EvaluationState, Fingerprint, Position, Settings,
};
use cohorts_store::JsonText;
use cohorts_store::cohorts::Cohort;
use cohorts_store::projects::Project;

use crate::index::snapshot::Snapshot;

/// Retention deletes events all the time; cohorts of the project are calculated fully once per step.
const RETENTION_STEP: i64 = 3_600_000_000;

/// The settings of a project that its members depend on, at a time.
pub fn settings_of(project: &Project, now: DateTime<Utc>) -> Settings {
    let oldest = project.oldest_event(now);
    Settings {
        time_zone: project.time_zone.clone(),
        test_accounts: Fingerprint::default(),
        retention_days: project.event_retention_days.map(i64::from),
        deleted_before: oldest.map(|oldest| {
            let oldest = oldest.timestamp_micros();
            oldest - oldest.rem_euclid(RETENTION_STEP)
        }),
    }
}

/// The definition of a dynamic cohort; `None` if it cannot be read.
pub fn definition_of(cohort: &Cohort) -> Option<Definition> {
    let rule = (!cohort.definition.is_static).then(|| cohort.definition.rule());
    rule?.ok()
}

/// What a calculation of a dynamic cohort evaluates, as JSON text; `None` if no pass can advance its members.
pub fn evaluation_of(
    cohort: &Cohort,
    snapshot: &Snapshot<'_, '_>,
    at: &Moment,
    settings: &Settings,
) -> Option<String> {
    let definition = definition_of(cohort)?;
    let definitions = Definitions::read(definition, snapshot, at).ok()?;
    let position = Position {
        now: at.now,
        seq: snapshot.seq(),
    };
    Some(text_of(&definitions.state(position, settings)))
}

/// The state as JSON text.
pub fn text_of(state: &EvaluationState) -> String {
    serde_json::to_string(state).unwrap_or_default()
}

/// The state of a row; `None` if an older or newer program has written it in another form.
pub fn state_of(text: Option<&JsonText>) -> Option<EvaluationState> {
    serde_json::from_str(&text?.0).ok()
}
