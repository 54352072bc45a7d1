//! Runs work on the database on threads that may block. Its log lines contain the id of the request.

use std::io;
use std::sync::LazyLock;

use actix_web::web;
use cohorts_store::{Conn, Store};
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;
use crate::logging::RequestId;
use crate::priority;

/// The threads of questions. They start when they are needed, as many as there are questions with a permit.
static QUESTIONS: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    let mut threads = Builder::new_current_thread();
    threads
        .thread_name("questions")
        .on_thread_start(priority::lower);
    threads.build()
});

/// Runs `work` on a connection.
pub async fn read<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = store.clone();
    compute(move || work(&mut *store.connection()?)).await
}

/// Runs `work` that needs no connection and may take long, such as parsing a large value.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let request = RequestId::current();
    let work = move || request.scope(work);
    web::block(work).await.map_err(|_| Error::Unavailable)?
}

/// As [`read`], with a lower priority than other work: for questions, which must not delay writes and live cohorts.
pub async fn question<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let store = store.clone();
    compute_question(move || work(&mut *store.connection()?)).await
}

/// As [`compute`], with a lower priority than other work.
async fn compute_question<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let request = RequestId::current();
    let work = move || request.scope(work);
    let threads = QUESTIONS.as_ref().map_err(|_| Error::Unavailable)?;
    threads
        .spawn_blocking(work)
        .await
        .map_err(|_| Error::Unavailable)?
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[actix_web::test]
    async fn a_question_has_a_lower_priority_and_the_id_of_its_request() {
        let id = RequestId::new();
        let look = || Ok((getpriority_process(None).unwrap(), RequestId::current()));
        let work = async {
            (
                compute(look).await.unwrap(),
                compute_question(look).await.unwrap(),
            )
        };
        let (other, question) = id.clone().accompany(work).await;
        assert_eq!((&other.1, &question.1), (&id, &id));
        if cfg!(target_os = "linux") {
            assert_eq!(question.0, (other.0 + priority::NICENESS).min(19));
        }
    }

    #[actix_web::test]
    async fn a_question_that_panics_fails_as_other_work_does() {
        let other = compute(|| -> Result<(), Error> { panic!("a test") }).await;
        let question = compute_question(|| -> Result<(), Error> { panic!("a test") }).await;
        assert!(matches!(other, Err(Error::Unavailable)));
        assert!(matches!(question, Err(Error::Unavailable)));
        assert_eq!(compute_question(|| Ok(5)).await.unwrap(), 5);
    }
}
