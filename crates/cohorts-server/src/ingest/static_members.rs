//! The members of static cohorts after a merge of persons.

use cohorts_store::changes::{self, Cause};
use cohorts_store::{Conn, Error, ProjectId, members};
use roaring::RoaringBitmap;

/// An ordinal as bitmaps have it.
pub fn bits(ordinal: i64) -> Result<u32, Error> {
    Ok(u32::try_from(ordinal).map_err(anyhow::Error::from)?)
}

/// Replaces merged persons by their survivors in every static cohort.
pub fn replace_in_static_cohorts(
    conn: &mut Conn,
    project: ProjectId,
    merged: &[(i64, i64)],
) -> Result<(), Error> {
    let retired = merged.iter().map(|(from, _)| bits(*from));
    let retired = retired.collect::<Result<RoaringBitmap, _>>()?;
    for cohort in members::static_cohorts_with(conn, project, &retired)? {
        changes::edit(conn, &cohort, Cause::Merge, |mut persons| {
            for (from, into) in merged {
                if persons.remove(bits(*from)?) {
                    persons.insert(bits(*into)?);
                }
            }
            Ok(persons)
        })?;
    }
    Ok(())
}
