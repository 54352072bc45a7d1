//! The start of a session of the console: a code is exchanged for a key.
//!
//! A wrong code counts as a wrong key of the client, so codes cannot be guessed. Codes are long random texts, and only
//! their hashes are compared.

use chrono::{TimeDelta, Utc};
use cohorts_api::types::ConsoleSession;
use cohorts_api::{ConsoleApi, ConsoleSessionCreateRequest, ConsoleSessionCreateResponse};
use cohorts_store::{Conn, Lane, console_codes, transaction};

use super::Service;
use crate::auth;
use crate::blocking;
use crate::error::Error;
use crate::peer::peer;

/// How long the key of a session is valid.
const SESSION_AGE: TimeDelta = TimeDelta::hours(12);

impl ConsoleApi for Service {
    async fn console_session_create(
        &self,
        request: ConsoleSessionCreateRequest,
    ) -> Result<ConsoleSessionCreateResponse, Error> {
        if !self.with_console {
            return Err(Error::NotFound);
        }
        let (address, code) = (
            peer(request.http.request(), self.peer_source),
            request.body.code,
        );
        let store = self.store.in_lane(Lane::Authorization);
        let hash = auth::hash(&code);
        let exchange = blocking::read(&store, move |conn| exchange(conn, &hash));
        let session = self.wrong_keys.check(address, &code, exchange).await?;
        Ok(ConsoleSessionCreateResponse::Status201(session))
    }
}

fn exchange(conn: &mut Conn, code: &[u8]) -> Result<ConsoleSession, Error> {
    let (key, expires_at) = (auth::new_key(), Utc::now() + SESSION_AGE);
    let session = transaction(conn, |conn| {
        console_codes::exchange(conn, code, &auth::hash(&key), expires_at)
    })?;
    let session = session.ok_or_else(|| Error::AuthenticationFailed {
        code: "authentication_failed",
        detail: "The code is unknown, or was used, or has expired. Print a new address with `cohorts console`."
            .to_owned(),
    })?;
    Ok(ConsoleSession {
        key,
        label: session.label,
        expires_at,
    })
}
