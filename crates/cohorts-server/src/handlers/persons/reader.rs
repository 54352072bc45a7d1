//! Reads the persons of a request in pieces. Each piece has its memory, and a transaction and a permit of its own.

use std::sync::Arc;

use cohorts_api::Reservation;
use cohorts_api::types::Person;
use cohorts_store::Conn;

use super::query::PersonQuery;
use super::selection::{Reading, Room, Selection};
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::responses::PIECE_BYTES;

/// Memory per byte of properties: as the database sends them, as text, in the response, and the room for its growth.
const COST: usize = 4;

/// The persons of a request that are not read yet.
pub struct PersonReader {
    pub service: Service,
    pub query: Arc<PersonQuery>,
    limit: usize,
    /// `None` before the first piece.
    selection: Option<Selection>,
}

impl PersonReader {
    /// All persons of a query, or the first `limit` of them.
    pub fn new(service: Service, query: PersonQuery, limit: usize) -> Self {
        Self {
            service,
            query: Arc::new(query),
            limit,
            selection: None,
        }
    }

    /// The selection, after the first piece.
    pub fn selection(&self) -> Option<&Selection> {
        self.selection.as_ref()
    }

    /// Whether all persons were read.
    pub fn is_done(&self) -> bool {
        self.selection.as_ref().is_some_and(Selection::is_done)
    }

    /// Begins with the first person again.
    pub fn rewind(&mut self) {
        if let Some(selection) = &mut self.selection {
            selection.rewind();
        }
    }

    /// Reads at most `most` persons and calls `write` with them. The memory is enough for the persons and their text.
    pub async fn read<T: Send + 'static>(
        &mut self,
        most: usize,
        write: impl Fn(Vec<Person>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<(T, Reservation), Error> {
        let mut room = Room {
            bytes: PIECE_BYTES,
            persons: most,
        };
        loop {
            let project = self.query.project;
            let memory = self.service.response_memory(project, room.bytes * COST);
            let memory = memory.await?;
            match self.read_room(room, write.clone()).await? {
                Ok(value) => return Ok((value, memory)),
                Err(TooLarge(bytes)) => room.bytes = bytes,
            }
        }
    }

    async fn read_room<T: Send + 'static>(
        &mut self,
        room: Room,
        write: impl Fn(Vec<Person>) -> Result<T, Error> + Send + 'static,
    ) -> Result<Result<T, TooLarge>, Error> {
        let (query, store) = (Arc::clone(&self.query), self.service.store.clone());
        let (limit, shard_key) = (self.limit, self.query.project.shard_key());
        let selection = self.selection.take();
        let read = move |conn: &mut Conn| match selection {
            Some(mut selection) => query.run_again(conn, |conn| {
                let reading = selection.read(conn, shard_key, room)?;
                Ok((written(reading, write)?, selection))
            }),
            None => query.run(conn, &store, |conn, persons| {
                let mut selection = Selection::new(persons, &query, limit);
                let reading = selection.read(conn, shard_key, room)?;
                if !selection.is_done() {
                    selection.remember_seq(conn, shard_key)?;
                }
                Ok((written(reading, write)?, selection))
            }),
        };
        let (value, selection) = self.service.read(self.query.project, read).await?;
        self.selection = Some(selection);
        Ok(value)
    }
}

/// The next person is larger than the room.
struct TooLarge(usize);

fn written<T>(
    reading: Reading,
    write: impl Fn(Vec<Person>) -> Result<T, Error>,
) -> Result<Result<T, TooLarge>, Error> {
    Ok(match reading {
        Reading::Persons(persons) => Ok(write(persons)?),
        Reading::TooLarge(bytes) => Err(TooLarge(bytes)),
    })
}
