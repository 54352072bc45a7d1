//! Cursors that the log does not reach any more.

use std::sync::LazyLock;

use cohorts_server::Server;
use serde_json::json;

use super::{cursor, page};
use crate::harness::{Answer, Project, id_of, start};

/// A project on a database that was lost and set up again, and the cursors of readers of the lost one.
struct Restored {
    project: Project,
    cohort: i64,
    of_cohort: String,
    of_all: String,
}

fn project_with_cohort(server: &'static Server) -> (Project, i64) {
    let project = Project::on(server);
    let cohort = project.cohort(json!({"is_static": true}));
    (project, cohort)
}

fn fill(project: &Project) {
    let uploaded = project.upload(None, "distinct_id\na\nb\n", &[("create_people", "true")]);
    id_of(&uploaded);
}

static RESTORED: LazyLock<Restored> = LazyLock::new(|| {
    let [lost, restored]: [&'static Server; 2] =
        [0, 1].map(|_| &*Box::leak(Box::new(start(|_| {}))));
    let (original, cohort) = project_with_cohort(lost);
    fill(&original);
    let of = |path: &str| cursor(&page(&original, path, ""));
    let (of_cohort, of_all) = (
        of(&format!("cohorts/{cohort}/changes/")),
        of("cohorts/changes/"),
    );
    let (project, same) = project_with_cohort(restored);
    assert_eq!((project.id, same), (original.id, cohort));
    Restored {
        project,
        cohort,
        of_cohort,
        of_all,
    }
});

/// The response to an expired cursor. `{id}` in the path is a cohort.
pub fn expired(path: &str) -> Answer {
    let restored = &*RESTORED;
    let cursor = match path.contains("{id}") {
        true => &restored.of_cohort,
        false => &restored.of_all,
    };
    let path = path.replace("{id}", &restored.cohort.to_string());
    restored.project.get(&format!("{path}?{cursor}"))
}

#[test]
fn cursor_beyond_a_restored_log_has_expired() {
    for path in ["cohorts/{id}/changes/", "cohorts/changes/"] {
        let answer = expired(path);
        answer.is_error(410, "cursor_expired", None);
        assert!(answer.detail().contains("from=start"));
    }
    // Also when later changes have the numbers that were lost.
    let project = &RESTORED.project;
    for _ in 0..3 {
        fill(project);
    }
    for path in ["cohorts/{id}/changes/", "cohorts/changes/"] {
        expired(path).is_error(410, "cursor_expired", None);
    }
    page(
        project,
        &format!("cohorts/{}/changes/", RESTORED.cohort),
        "from=start",
    );
}
