//! The values of a person property, for lists of suggestions.

use cohorts_api::types::PersonValue;
use cohorts_store::{Conn, ProjectId, persons};

use super::query::limits;
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::admission::holding;
use crate::index::read::ReadTx;
use crate::shares::ShareOwner;

impl Service {
    /// The values of the property `key` that contain `term`. This reads all persons, so it takes a permit of the previews.
    pub(super) async fn property_values(
        &self,
        project: ProjectId,
        key: String,
        term: String,
    ) -> Result<Vec<PersonValue>, Error> {
        // No text of the database contains NUL.
        if key.is_empty() || key.contains('\0') || term.contains('\0') {
            return Ok(Vec::new());
        }
        let read = move |conn: &mut Conn| {
            ReadTx::run(conn, project, limits(), |tx| {
                tx.with_conn(|conn| persons::values(conn, project.shard_key(), &key, &term))
                    .map_err(Error::from)
            })
        };
        let permit = self
            .shares
            .previews
            .acquire(ShareOwner::Project(project))
            .await?;
        let values = self.read(project, holding(permit, read)).await?;
        let values = values.into_iter().map(|value| PersonValue {
            name: value.name,
            count: value.count,
        });
        Ok(values.collect())
    }
}
