//! The members of cohorts after a merge of persons.

use cohorts_store::changes::{self, Cause, Move};
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

/// Moves survivors with new ordinals in every cohort.
pub fn move_in_cohorts(
    conn: &mut Conn,
    project: ProjectId,
    moved: &[(i64, i64)],
) -> Result<(), Error> {
    if moved.is_empty() {
        return Ok(());
    }
    let moves = moved.iter().map(|(from, into)| {
        Ok(Move {
            from: bits(*from)?,
            into: bits(*into)?,
        })
    });
    let moves = moves.collect::<Result<Vec<Move>, Error>>()?;
    changes::move_persons(conn, project, &moves)
}
