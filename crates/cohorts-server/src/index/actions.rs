//! The actions that filters refer to, parsed.

use std::cell::RefCell;
use std::collections::HashMap;

use cohorts_engine::Action;
use cohorts_store::{Conn, ProjectId, Result, actions};

/// The bytes of the steps, as JSON text, of the actions that one snapshot remembers.
const MAX_BYTES: usize = 1 << 20;

/// An action, and the bytes of its steps.
pub struct ParsedAction {
    pub action: Action,
    bytes: usize,
}

/// Reads an action that is not deleted. Steps are validated before they are stored.
pub fn read(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<ParsedAction>> {
    let row = actions::find(conn, project, id)?;
    let live = row.filter(|(action, _)| !action.fields.deleted);
    Ok(live.and_then(|(action, _)| {
        let steps = action.fields.steps;
        let action = Action::parse(&steps.parse()).ok()?;
        let bytes = steps.0.len();
        Some(ParsedAction { action, bytes })
    }))
}

/// The actions that a snapshot has read. Many leaves may refer to one action.
#[derive(Default)]
pub struct ActionCache(RefCell<CachedActions>);

#[derive(Default)]
struct CachedActions {
    by_id: HashMap<i64, Option<Action>>,
    bytes: usize,
}

impl ActionCache {
    /// The action `id`, which is read by `read` unless it is remembered.
    pub fn get<E>(
        &self,
        id: i64,
        read: impl FnOnce() -> Result<Option<ParsedAction>, E>,
    ) -> Result<Option<Action>, E> {
        if let Some(action) = self.0.borrow().by_id.get(&id) {
            return Ok(action.clone());
        }
        let parsed = read()?;
        let cache = &mut *self.0.borrow_mut();
        cache.bytes += parsed.as_ref().map_or(0, |parsed| parsed.bytes);
        let action = parsed.map(|parsed| parsed.action);
        if cache.bytes <= MAX_BYTES {
            cache.by_id.insert(id, action.clone());
        }
        Ok(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_read_once_unless_the_actions_are_large() {
        let cache = ActionCache::default();
        let reads = RefCell::new(Vec::new());
        let get = |id, bytes| {
            let read = || {
                reads.borrow_mut().push(id);
                let action = Action::default();
                Ok::<_, ()>(Some(ParsedAction { action, bytes }))
            };
            assert_eq!(cache.get(id, read), Ok(Some(Action::default())));
        };
        for (id, bytes) in [(1, 100), (1, 100), (2, MAX_BYTES), (2, MAX_BYTES), (1, 100)] {
            get(id, bytes);
        }
        assert_eq!(*reads.borrow(), [1, 2, 2]);
    }
}
