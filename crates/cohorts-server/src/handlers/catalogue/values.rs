//! The most common values of a property, for lists of suggestions.

use cohorts_engine::{MAX_LISTED_BYTES, MAX_LISTED_VALUES, ValueCounts};
use cohorts_store::{Conn, ProjectId};

use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::admission::holding;
use crate::index::snapshot::ValueOwner;
use crate::shares::ShareOwner;

/// The values that a response has.
const LISTED: usize = 20;

impl Service {
    /// The most common values of the property `key` that begin with `prefix`, with the number of persons or events. They
    /// are counted with a permit of the previews.
    pub(in crate::handlers) async fn common_values(
        &self,
        project: ProjectId,
        owner: ValueOwner,
        key: Option<String>,
        prefix: Option<String>,
    ) -> Result<Vec<(String, i64)>, Error> {
        let (key, prefix) = (key.unwrap_or_default(), prefix.unwrap_or_default());
        // No text of the database contains NUL.
        if key.is_empty() || key.contains('\0') {
            return Ok(Vec::new());
        }
        // A property with more values is answered for a beginning of the values only.
        let most = if prefix.is_empty() {
            MAX_LISTED_VALUES
        } else {
            usize::MAX
        };
        let selection = ValueCounts::new(&prefix, MAX_LISTED_BYTES);
        let store = self.store.clone();
        let read = move |conn: &mut Conn| {
            store.read_snapshot(conn, project, |snapshot| {
                let counts = snapshot.count_values(&owner, &key, &selection, most)?;
                let counts = counts.ok_or_else(|| too_many(&key))?;
                let values = counts.most_common(LISTED).into_iter();
                let values = values.map(|(value, count)| (value.to_owned(), count as i64));
                Ok(values.collect())
            })
        };
        let previews = &self.shares.previews;
        let permit = previews.acquire(ShareOwner::Project(project)).await?;
        self.read(project, holding(permit, read)).await
    }
}

fn too_many(key: &str) -> Error {
    Error::Validation {
        attr: Some("value".to_owned()),
        code: "too_many_values",
        detail: format!(
            "The property `{key}` has more than 10,000 values. Send the beginning of a value as `value`."
        ),
    }
}
