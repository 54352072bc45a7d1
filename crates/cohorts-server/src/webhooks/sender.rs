//! Sends the messages of all webhooks, on a thread of its own.
//!
//! Each webhook that has changes is claimed, and sends its messages one after another in a task of its own, so that a slow
//! receiver delays no other. Webhooks that fail have fewer places than the others, so they cannot take all of them. The
//! database decides which webhook is free, so any number of processes share the work.

mod reasons;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_store::webhooks::deliveries::DeliveryOutcome;
use cohorts_store::webhooks::queue::{
    self, AfterAttempt, ClaimedWebhook, FreeWebhook, PauseReason,
};
use cohorts_store::{Conn, ProjectId, Store, changes};
use futures::future::select_all;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use reasons::{changes_expired, failing, key_lost};

use super::RetryPolicy;
use super::client::{HttpsClient, SendAttempt};
use super::message::{Message, NextMessage};
use super::secrets::{Secrets, WebhookSecret};
use crate::error::Error;
use crate::looks::LookTimes;
use crate::metrics::Metrics;
use crate::signals::ChangeSignal;

/// How often the thread asks whether free webhooks are to be looked for, and the shortest pause between two looks if members
/// change in this process.
const TICK: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);
/// How long a claim lasts if its process dies, and how often it is extended.
const LEASE: TimeDelta = TimeDelta::seconds(5);
const RENEWAL: Duration = Duration::from_secs(1);
/// After this time a webhook gives its place to another one.
const TURN: Duration = Duration::from_secs(10);
/// Webhooks that send at the same time, and those of them with a failed last attempt.
const PLACES: usize = 64;
const FAILING_PLACES: usize = 16;
/// Connections to the database.
const CONNECTIONS: usize = 3;
/// How long messages that are being sent may take when the service ends.
const GRACE: Duration = Duration::from_secs(2);

/// What a sender works with.
pub struct SenderParts {
    pub store: Store,
    pub secrets: Secrets,
    pub client: HttpsClient,
    pub retry: RetryPolicy,
    pub metrics: Metrics,
    pub changes: ChangeSignal,
    pub looks: LookTimes,
}

/// The thread that sends messages.
pub struct Sender {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Sender {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Fails if the system starts no thread.
    pub fn start(parts: SenderParts) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("webhooks")
            .build()?;
        let dispatcher = Dispatcher::new(parts, stopped);
        let work = move || {
            runtime.block_on(dispatcher.run());
            // The look-up of a host cannot be cancelled, and may take much longer than its attempt.
            runtime.shutdown_timeout(GRACE);
        };
        let thread = thread::Builder::new().name("webhooks".to_owned());
        Ok(Self {
            stop,
            thread: thread.spawn(work)?,
        })
    }

    /// Sends no further messages, and waits a moment for those that are being sent.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            log::error!("the thread of webhooks had panicked");
        }
    }
}

/// What all tasks share.
struct SenderContext {
    parts: SenderParts,
    connections: Semaphore,
    stopped: watch::Receiver<bool>,
}

impl SenderContext {
    /// Runs `work` on a connection, on a thread that may block.
    async fn database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _permit = self.connections.acquire().await;
        let store = self.parts.store.clone();
        let work = spawn_blocking(move || work(&mut *store.connection()?));
        work.await.map_err(anyhow::Error::from)?
    }
}

/// Gives places to webhooks.
struct Dispatcher {
    shared: Arc<SenderContext>,
    tasks: JoinSet<()>,
    /// The webhook of each task, and whether its last attempt had failed.
    places: HashMap<tokio::task::Id, (i64, bool)>,
    /// The last webhook that got a place. The next one follows it, so that each gets its turn.
    last: i64,
    /// The changes of members, in this process, of projects with free webhooks.
    changes: HashMap<ProjectId, watch::Receiver<u64>>,
}

impl Dispatcher {
    fn new(parts: SenderParts, stopped: watch::Receiver<bool>) -> Self {
        let connections = Semaphore::new(CONNECTIONS);
        Self {
            shared: Arc::new(SenderContext {
                parts,
                connections,
                stopped,
            }),
            tasks: JoinSet::new(),
            places: HashMap::new(),
            last: 0,
            changes: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let mut stopped = self.shared.stopped.clone();
        let looks = self.shared.parts.looks.clone();
        loop {
            let pause = Instant::now() + PAUSE;
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = next_change(&mut self.changes, pause) => self.fill_places().await,
                () = sleep(looks.pause(TICK)) => {
                    if looks.take() {
                        self.fill_places().await;
                    }
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(cause) => {
                            log::error!("a webhook failed: {cause}");
                            cause.id()
                        }
                    };
                    self.places.remove(&id);
                    // The webhook may be free again, or has another time.
                    looks.soon();
                }
            }
        }
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        // A message that takes longer is sent again by the next process.
        timeout(GRACE, ending).await.ok();
    }

    /// Starts a task for each free webhook with changes, as long as there are places.
    async fn fill_places(&mut self) {
        let FreeWebhooks {
            projects,
            mut free,
            next,
        } = match self.shared.database(free_with_changes).await {
            Ok(free) => free,
            Err(cause) => {
                log::warn!("webhooks were not looked for, will retry: {cause}");
                return;
            }
        };
        if let Some(time) = next {
            self.shared.parts.looks.due(time);
        }
        self.watch(&projects);
        // Those after the last one come first.
        let first = free.partition_point(|webhook| webhook.id <= self.last);
        free.rotate_left(first);
        for webhook in free {
            let is_sending = self.places.values().any(|(id, _)| *id == webhook.id);
            let failing = self.places.values().filter(|(_, is_failing)| *is_failing);
            let has_place = self.places.len() < PLACES
                && (!webhook.is_failing() || failing.count() < FAILING_PLACES);
            if is_sending || !has_place {
                continue;
            }
            self.last = webhook.id;
            let place = (webhook.id, webhook.is_failing());
            let shared = Arc::clone(&self.shared);
            let task = self.tasks.spawn(shared.take_turn(webhook));
            self.places.insert(task.id(), place);
        }
    }

    /// Watches the changes of these projects and of no others.
    fn watch(&mut self, projects: &[ProjectId]) {
        self.changes.retain(|project, _| projects.contains(project));
        for project in projects {
            let signal = &self.shared.parts.changes;
            let subscribe = || signal.subscribe(*project);
            self.changes.entry(*project).or_insert_with(subscribe);
        }
    }
}

/// Waits until members of one of the projects change, and at least until `pause`.
async fn next_change(changes: &mut HashMap<ProjectId, watch::Receiver<u64>>, pause: Instant) {
    if changes.is_empty() {
        return std::future::pending().await;
    }
    let changed = changes
        .values_mut()
        .map(|receiver| Box::pin(receiver.changed()));
    let (result, ..) = select_all(changed).await;
    match result {
        Ok(()) => sleep_until(pause).await,
        Err(_) => std::future::pending().await,
    }
}

/// The free webhooks that have something to send.
struct FreeWebhooks {
    /// The projects of all free webhooks, sorted.
    projects: Vec<ProjectId>,
    free: Vec<FreeWebhook>,
    /// When the next webhook is free, or loses its key.
    next: Option<DateTime<Utc>>,
}

/// The free webhooks that have something to send, or lost their key, in the order of their ids.
fn free_with_changes(conn: &mut Conn) -> Result<FreeWebhooks, Error> {
    let now = Utc::now();
    let mut free = queue::free(conn, now)?;
    let mut projects: Vec<ProjectId> = free.iter().map(FreeWebhook::project).collect();
    projects.sort_unstable();
    projects.dedup();
    let heads = match projects.is_empty() {
        true => Vec::new(),
        false => changes::heads(conn, &projects)?,
    };
    let heads: HashMap<ProjectId, i64> = heads
        .iter()
        .map(|head| (head.project(), head.number))
        .collect();
    free.retain(|webhook| {
        let head = heads.get(&webhook.project()).copied().unwrap_or(0);
        webhook.has_changes(head) || webhook.has_lost_key(now)
    });
    let next = queue::next_time(conn, now)?;
    Ok(FreeWebhooks {
        projects,
        free,
        next,
    })
}

/// What a webhook does after a message.
#[derive(Debug, PartialEq, Eq)]
enum TurnStep {
    /// It may have another one.
    Continue,
    /// It waits for changes, or for its next attempt.
    End,
}

impl SenderContext {
    /// Sends messages of a webhook for the length of a turn.
    async fn take_turn(self: Arc<Self>, webhook: FreeWebhook) {
        let (id, project) = (webhook.id, webhook.project().0);
        if let Err(cause) = self.send_messages(webhook).await {
            log::warn!("webhook {id} of project {project} is interrupted, will retry: {cause}");
        }
    }

    async fn send_messages(&self, webhook: FreeWebhook) -> Result<(), Error> {
        let id = webhook.id;
        let claimed = self.database(move |conn| Ok(queue::claim(conn, id, LEASE)?));
        let Some(mut claimed) = claimed.await? else {
            return Ok(());
        };
        if webhook.has_lost_key(Utc::now()) {
            return self.pause(claimed, key_lost()).await;
        }
        let started = Instant::now();
        while self.step(&claimed).await? == TurnStep::Continue
            && started.elapsed() < TURN
            && !*self.stopped.borrow()
        {
            let renewed = self.database({
                let claimed = claimed.clone();
                move |conn| Ok(queue::renew(conn, &claimed, LEASE)?)
            });
            match renewed.await? {
                Some(renewed) => claimed = renewed,
                None => break,
            }
        }
        self.database(move |conn| Ok(queue::release(conn, &claimed)?))
            .await
    }

    /// Sends the next message of a claimed webhook, if there is one, and records the outcome.
    async fn step(&self, claimed: &ClaimedWebhook) -> Result<TurnStep, Error> {
        let secrets = self.parts.secrets.clone();
        let next = self.database({
            let claimed = claimed.clone();
            move |conn| {
                let next = Message::next(conn, &claimed)?;
                let opened = secrets.open(claimed.project(), &claimed.secrets, Utc::now());
                Ok((next, opened))
            }
        });
        let (next, opened) = next.await?;
        match next {
            NextMessage::Nothing { has_more: true } => Ok(TurnStep::Continue),
            NextMessage::Nothing { has_more: false } | NextMessage::Lost => Ok(TurnStep::End),
            NextMessage::Expired => {
                self.pause(claimed.clone(), changes_expired()).await?;
                Ok(TurnStep::End)
            }
            NextMessage::Message(message) => {
                let attempt = match opened {
                    Ok(secrets) => self.send(claimed, &message, &secrets).await,
                    Err(cause) => SendAttempt::not_sent(unreadable(claimed, &cause)),
                };
                self.finish(claimed, &message, &attempt).await
            }
        }
    }

    /// Sends a message, and keeps the claim meanwhile.
    async fn send(
        &self,
        claimed: &ClaimedWebhook,
        message: &Message,
        secrets: &[WebhookSecret],
    ) -> SendAttempt {
        let sending = self
            .parts
            .client
            .send(&claimed.fields.url, message, secrets);
        let mut sending = std::pin::pin!(sending);
        loop {
            if let Ok(attempt) = timeout(RENEWAL, &mut sending).await {
                return attempt;
            }
            let claimed = claimed.clone();
            let renewed = self.database(move |conn| Ok(queue::renew(conn, &claimed, LEASE)?));
            // If the claim is lost, the outcome is not recorded.
            if let Err(cause) = renewed.await {
                log::warn!("a claim on a webhook was not extended: {cause}");
            }
        }
    }

    async fn finish(
        &self,
        claimed: &ClaimedWebhook,
        message: &Message,
        attempt: &SendAttempt,
    ) -> Result<TurnStep, Error> {
        let outcome = outcome(message, attempt, claimed.attempts + 1);
        let is_delivered = attempt.error.is_none();
        self.parts.metrics.webhook_delivery(is_delivered);
        let next = match &message.span {
            Some(span) if is_delivered => AfterAttempt::Continue(span.through.clone()),
            _ => self.after_failure(claimed, &outcome),
        };
        if let AfterAttempt::Pause(reason) = &next {
            log_pause(claimed, reason);
        }
        let recorded = self.database({
            let claimed = claimed.clone();
            move |conn| Ok(queue::finish(conn, &claimed, &outcome, &next)?)
        });
        let is_recorded = recorded.await?.is_some();
        Ok(if is_recorded && is_delivered {
            TurnStep::Continue
        } else {
            TurnStep::End
        })
    }

    fn after_failure(&self, claimed: &ClaimedWebhook, outcome: &DeliveryOutcome) -> AfterAttempt {
        let now = Utc::now();
        let since = claimed.failing_since.unwrap_or(outcome.started_at);
        let retry = &self.parts.retry;
        if (now - since).to_std().unwrap_or_default() >= retry.give_up_after {
            return AfterAttempt::Pause(failing(outcome.error.as_deref()));
        }
        AfterAttempt::Retry(now + retry.pause(outcome.attempt))
    }

    async fn pause(&self, claimed: ClaimedWebhook, reason: PauseReason) -> Result<(), Error> {
        log_pause(&claimed, &reason);
        let pause = move |conn: &mut Conn| {
            cohorts_store::transaction(conn, |conn| {
                queue::pause(conn, &claimed, &reason)?;
                Ok(queue::release(conn, &claimed)?)
            })
        };
        self.database(pause).await
    }
}

fn log_pause(claimed: &ClaimedWebhook, reason: &PauseReason) {
    let (id, project) = (claimed.id, claimed.project().0);
    log::warn!(
        "webhook {id} of project {project} is paused: {}",
        reason.name
    );
}

/// The error of a delivery without a secret. The log has the cause.
fn unreadable(claimed: &ClaimedWebhook, cause: &anyhow::Error) -> String {
    log::error!(
        "the secret of webhook {} cannot be decrypted: {cause:#}",
        claimed.id
    );
    "The service cannot decrypt the secret of the webhook. Its operator restores the secret key, or replace the secret with \
     `rotate_secret/`."
        .to_owned()
}

/// The outcome of an attempt, as the store has it.
pub fn outcome(message: &Message, attempt: &SendAttempt, number: i64) -> DeliveryOutcome {
    let span = message.span.as_ref();
    DeliveryOutcome {
        message_id: message.id.clone(),
        kind: message.kind.to_owned(),
        from_cursor: span.map(|span| span.from.clone()),
        cursor: span.map(|span| span.through.cursor.clone()),
        changes: message.changes,
        attempt: number,
        response_status: attempt.status.map(i64::from),
        response_body: attempt.body.clone(),
        error: attempt.error.clone(),
        started_at: attempt.started_at,
        duration_ms: i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX),
    }
}
