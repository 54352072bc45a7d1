//! Codes that sign a browser in to the console. Each is exchanged once for its session key.
//!
//! Only hashes of codes are stored. The session key exists since the creation of the code, so that a revocation or the
//! deletion of its project reaches it, but its hash is void until the exchange.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::keys::{self, NewKey, Teammate};
use crate::schema::{console_codes, keys as key_rows};
use crate::{Conn, Result};

/// A code to create.
pub struct NewCode<'a> {
    /// The hash of the code.
    pub hash: &'a [u8],
    /// The time after which the code is refused.
    pub expires_at: DateTime<Utc>,
}

/// The key of a code that was exchanged.
#[derive(Debug, Queryable)]
pub struct SessionKey {
    /// The id of the key.
    pub id: i64,
    /// The name that the command gave.
    pub label: String,
}

/// Creates a code with a session key of the teammate, and deletes the codes that have expired. The hash and the expiry
/// of `key` are ignored: the exchange sets them.
///
/// # Errors
///
/// Fails if the database fails, or if a code has the hash.
pub fn create(
    conn: &mut Conn,
    owner: &Teammate,
    code: &NewCode<'_>,
    key: &NewKey<'_>,
) -> Result<()> {
    let expired = console_codes::expires_at.le(diesel::dsl::now);
    diesel::delete(console_codes::table.filter(expired)).execute(conn)?;
    let unused = NewKey {
        hash: &unused_hash(code.hash),
        expires_at: Some(code.expires_at),
        ..*key
    };
    let key = keys::create(conn, owner, &unused)?;
    diesel::insert_into(console_codes::table)
        .values((
            console_codes::hash.eq(code.hash),
            console_codes::key_id.eq(key.id),
            console_codes::expires_at.eq(code.expires_at),
        ))
        .execute(conn)?;
    Ok(())
}

/// The text in place of the hash of a key before its code is exchanged. It has another length than a hash, so no key has it.
fn unused_hash(code: &[u8]) -> Vec<u8> {
    [b"unused ", code].concat()
}

/// Deletes the code with the hash, and lets its key be used with the hash `key` until `key_expires_at`. Returns `None`
/// if there is no such code, or it has expired by the clock of the database, or its key was revoked. Call it in a
/// transaction.
///
/// # Errors
///
/// Fails if the database fails.
pub fn exchange(
    conn: &mut Conn,
    code: &[u8],
    key: &[u8],
    key_expires_at: DateTime<Utc>,
) -> Result<Option<SessionKey>> {
    let valid = console_codes::table
        .filter(console_codes::hash.eq(code))
        .filter(console_codes::expires_at.gt(diesel::dsl::now));
    let id: Option<i64> = diesel::delete(valid)
        .returning(console_codes::key_id)
        .get_result(conn)
        .optional()?;
    let Some(id) = id else {
        return Ok(None);
    };
    let of_code = key_rows::table
        .filter(key_rows::id.eq(id))
        .filter(key_rows::revoked_at.is_null());
    Ok(diesel::update(of_code)
        .set((
            key_rows::hash.eq(key),
            key_rows::expires_at.eq(key_expires_at),
        ))
        .returning((key_rows::id, key_rows::label))
        .get_result(conn)
        .optional()?)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::testing::TestDatabase;

    const LATER: TimeDelta = TimeDelta::minutes(10);

    /// Creates a code that expires at `expires_at`, and returns the id of its key.
    fn add(conn: &mut Conn, hash: [u8; 32], expires_at: DateTime<Utc>) -> i64 {
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let key = NewKey {
            hash: &[],
            label: "console",
            scopes: &["*".to_owned()],
            projects: None,
            expires_at: None,
        };
        let code = NewCode {
            hash: &hash,
            expires_at,
        };
        create(conn, &owner, &code, &key).unwrap();
        keys::list(conn).unwrap().last().unwrap().0.id
    }

    fn is_valid(conn: &mut Conn, hash: &[u8]) -> bool {
        keys::access(conn, hash, None).unwrap().is_some()
    }

    #[test]
    fn a_code_gives_its_key_once() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let later = Utc::now() + LATER;
        let (code, key) = ([1; 32], [2; 32]);
        let id = add(conn, code, later);
        assert!(!is_valid(conn, &code) && !is_valid(conn, &key));
        let session = exchange(conn, &code, &key, later).unwrap().unwrap();
        assert_eq!((session.id, session.label.as_str()), (id, "console"));
        assert!(is_valid(conn, &key));
        assert!(exchange(conn, &code, &[3; 32], later).unwrap().is_none());
        assert!(!is_valid(conn, &[3; 32]));
        assert!(exchange(conn, &[4; 32], &[3; 32], later).unwrap().is_none());
    }

    #[test]
    fn expired_codes_and_codes_of_revoked_keys_give_no_key() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let (now, later) = (Utc::now(), Utc::now() + LATER);
        add(conn, [1; 32], now - TimeDelta::seconds(1));
        assert!(exchange(conn, &[1; 32], &[9; 32], later).unwrap().is_none());
        let revoked = add(conn, [2; 32], later);
        let count = console_codes::table.count().get_result::<i64>(conn);
        assert_eq!(count.unwrap(), 1, "the expired code is deleted");
        assert!(keys::revoke(conn, revoked).unwrap());
        assert!(exchange(conn, &[2; 32], &[9; 32], later).unwrap().is_none());
        assert!(!is_valid(conn, &[9; 32]));
    }
}
