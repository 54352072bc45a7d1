//! Persons by their e-mail addresses.
//!
//! Addresses are compared without white space around them and without case. Both sides are folded by one SQL expression,
//! because Rust and Postgres fold some letters in different ways, such as `İ` and `Σ`.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use crate::{Conn, Result, ShardKey};

/// White space as `char::is_whitespace` has it, as the text of an SQL literal.
macro_rules! blanks {
    () => {
        r"E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'"
    };
}

/// An address as it is compared. The index on addresses has the same expression.
macro_rules! folded {
    ($address:literal) => {
        concat!("lower(btrim(", $address, ", ", blanks!(), "))")
    };
}

pub(crate) const BY_EMAIL: &str = concat!(
    "select keys.email, p.ordinal from (select distinct unnest($2) as email) as keys cross join lateral ( ",
    "select ordinal from persons where shard_key = $1 and properties ? 'email' and md5(",
    folded!("properties ->> 'email'"),
    ") = md5(",
    folded!("keys.email"),
    ") and ",
    folded!("properties ->> 'email'"),
    " = ",
    folded!("keys.email"),
    " offset 0) p"
);

#[derive(QueryableByName)]
struct EmailRow {
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
}

/// The persons that have one of these addresses as their property `email`, each with the address as it is in `emails`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn ordinals_by_email(
    conn: &mut Conn,
    shard_key: ShardKey,
    emails: &[&str],
) -> Result<Vec<(String, i64)>> {
    let rows: Vec<EmailRow> = diesel::sql_query(BY_EMAIL)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<Text>, _>(emails)
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.email, row.ordinal))
        .collect())
}

pub(crate) const FIRST_SPELLINGS: &str = concat!(
    "select email, first_value(email) over (partition by ",
    folded!("email"),
    " order by number) as first from unnest($1) with ordinality as keys(email, number)"
);

#[derive(QueryableByName)]
struct SpellingRow {
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Text)]
    first: String,
}

/// The first of these addresses that is the same as each of them, apart from its spelling.
///
/// # Errors
///
/// Fails if the database fails.
pub fn first_spellings(conn: &mut Conn, emails: &[&str]) -> Result<HashMap<String, String>> {
    let rows: Vec<SpellingRow> = diesel::sql_query(FIRST_SPELLINGS)
        .bind::<Array<Text>, _>(emails)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.email, row.first)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDatabase;

    #[derive(QueryableByName)]
    struct PlanRow {
        #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
        line: String,
    }

    #[test]
    fn an_address_is_found_by_the_index() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        diesel::sql_query("set enable_seqscan = off")
            .execute(conn)
            .unwrap();
        let plan: Vec<PlanRow> = diesel::sql_query(format!("explain {BY_EMAIL}"))
            .bind::<BigInt, _>(1)
            .bind::<Array<Text>, _>(vec!["a@x.io"])
            .load(conn)
            .unwrap();
        let lines: Vec<String> = plan.into_iter().map(|row| row.line).collect();
        let plan = lines.join("\n");
        assert!(plan.contains("persons_by_address"), "{plan}");
        assert!(plan.contains("md5"), "{plan}");
    }

    #[derive(QueryableByName)]
    struct TextRow {
        #[diesel(sql_type = Text)]
        text: String,
    }

    #[test]
    fn white_space_is_that_of_rust() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let blanks: TextRow = diesel::sql_query(concat!("select ", blanks!(), " as text"))
            .get_result(conn)
            .unwrap();
        let expected: String = ('\0'..=char::MAX).filter(|c| c.is_whitespace()).collect();
        assert_eq!(blanks.text, expected);
    }
}
