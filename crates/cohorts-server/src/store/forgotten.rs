//! People who were deleted: what is left of them is a number that is never given out again, and the batch of the log
//! that says so, by which whoever read the log before learns of it.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool};
use roaring::RoaringBitmap;

use super::schema::forgotten_persons;
use super::{Conn, Place};

pub fn record(conn: &mut Conn, place: Place, number: i64, batch: i64) -> QueryResult<()> {
    diesel::insert_into(forgotten_persons::table)
        .values((
            forgotten_persons::place.eq(place.0),
            forgotten_persons::number.eq(number),
            forgotten_persons::batch.eq(batch),
        ))
        .execute(conn)?;
    Ok(())
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

/// Whether any of these people were deleted.
pub fn any(conn: &mut Conn, place: Place, numbers: impl Iterator<Item = i64>) -> QueryResult<bool> {
    let numbers: Vec<i64> = numbers.collect();
    let row: Found = diesel::sql_query(
        "select exists (select from unnest($2) as asked(number) \
            join forgotten_persons f on f.place = $1 and f.number = asked.number) as found",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<BigInt>, _>(numbers)
    .get_result(conn)?;
    Ok(row.found)
}

/// Who was deleted in batches after that one.
pub fn since(conn: &mut Conn, place: Place, batch: i64) -> QueryResult<RoaringBitmap> {
    let numbers: Vec<i64> = forgotten_persons::table
        .filter(forgotten_persons::place.eq(place.0))
        .filter(forgotten_persons::batch.gt(batch))
        .select(forgotten_persons::number)
        .load(conn)?;
    let numbers = numbers
        .into_iter()
        .filter_map(|number| u32::try_from(number).ok());
    Ok(numbers.collect())
}
