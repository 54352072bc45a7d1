//! Hints between the processes of one database: each tells the others which projects it has written.
//!
//! A process also sends a check, which it receives itself if notifications arrive at all, and by which the others know of it.
//! A process that has no others sends no hints.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use cohorts_store::hints::{self, Listener};
use cohorts_store::{Error, ProjectId, Store};
use uuid::Uuid;

/// The pause between two checks, and between two tries to listen.
const CHECK: Duration = Duration::from_secs(5);
/// Another process is gone if it has sent nothing for this time.
const SILENCE: Duration = Duration::from_secs(20);
/// A check that takes longer is lost.
const ANSWER: Duration = Duration::from_secs(1);

/// The hints that a process sends and receives.
pub struct HintChannel {
    owner: String,
    listener: Option<Listener>,
    /// When the last check was sent, or the last try to listen was.
    checked: Option<Instant>,
    is_answered: bool,
    /// Whether the last check has not arrived.
    is_awaited: bool,
    /// When the others were last heard.
    others: HashMap<String, Instant>,
}

impl HintChannel {
    pub fn new(owner: Uuid) -> Self {
        Self {
            owner: owner.to_string(),
            listener: None,
            checked: None,
            is_answered: false,
            is_awaited: false,
            others: HashMap::new(),
        }
    }

    /// Whether notifications arrive, as far as the last check has shown.
    pub fn arrives(&self) -> bool {
        self.listener.is_some() && self.is_answered
    }

    /// Sends hints about the projects `written`, and returns the projects that others have written.
    pub fn exchange(
        &mut self,
        store: &Store,
        written: &BTreeSet<ProjectId>,
    ) -> Result<BTreeSet<ProjectId>, Error> {
        let is_due = self
            .checked
            .is_none_or(|checked| checked.elapsed() >= CHECK);
        if is_due {
            self.checked = Some(Instant::now());
            self.is_awaited = true;
            if self.listener.is_none() {
                self.listener = Some(store.listen()?);
            }
            send(store, &format!("{} check", self.owner))?;
        }
        let is_late = self
            .checked
            .is_some_and(|checked| checked.elapsed() >= ANSWER);
        self.is_answered &= !(self.is_awaited && is_late);
        self.others.retain(|_, heard| heard.elapsed() < SILENCE);
        if !written.is_empty() && !self.others.is_empty() {
            send(store, &written_text(&self.owner, written))?;
        }
        let Some(listener) = &mut self.listener else {
            return Ok(BTreeSet::new());
        };
        let received = listener.received();
        let texts = received.inspect_err(|_| {
            (self.listener, self.is_answered) = (None, false);
        })?;
        let mut all = BTreeSet::new();
        for text in texts {
            self.receive(&text, &mut all);
        }
        Ok(all)
    }

    fn receive(&mut self, text: &str, all: &mut BTreeSet<ProjectId>) {
        let mut words = text.split(' ');
        let sender = words.next().unwrap_or_default();
        if sender == self.owner {
            (self.is_answered, self.is_awaited) = (true, false);
            return;
        }
        if self
            .others
            .insert(sender.to_owned(), Instant::now())
            .is_none()
        {
            // The new process learns of this one before it writes much.
            self.checked = None;
        }
        if words.next() == Some("written") {
            let ids = words.filter_map(|word| word.parse().ok());
            all.extend(ids.map(ProjectId));
        }
    }
}

fn written_text(sender: &str, written: &BTreeSet<ProjectId>) -> String {
    let ids = written.iter().map(|project| format!(" {}", project.0));
    format!("{sender} written{}", ids.collect::<String>())
}

fn send(store: &Store, text: &str) -> Result<(), Error> {
    hints::send(&mut *store.connection()?, text)
}

/// Tells all services that a command has written a project.
pub fn tell_services(store: &Store, project: ProjectId) {
    let text = written_text("command", &BTreeSet::from([project]));
    if let Err(cause) = send(store, &text) {
        log::debug!("running services notice the writes some seconds later: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use cohorts_store::testing::TestDatabase;

    use super::*;

    #[test]
    fn processes_tell_each_other_what_they_have_written() {
        let database = TestDatabase::create();
        let store = database.open();
        let [mut one, mut two] = [(); 2].map(|()| HintChannel::new(Uuid::now_v7()));
        let none = BTreeSet::new();
        let start = Instant::now();
        while !(one.arrives() && two.arrives() && one.others.len() == 1 && two.others.len() == 1) {
            one.exchange(&store, &none).unwrap();
            // The second check reaches both.
            if one
                .checked
                .is_some_and(|checked| checked.elapsed() > ANSWER)
            {
                one.checked = None;
            }
            two.exchange(&store, &none).unwrap();
            assert!(start.elapsed() < Duration::from_secs(30));
            thread::yield_now();
        }
        one.exchange(&store, &BTreeSet::from([ProjectId(3), ProjectId(4)]))
            .unwrap();
        let mut received = BTreeSet::new();
        while received.is_empty() {
            received = two.exchange(&store, &none).unwrap();
            assert!(start.elapsed() < Duration::from_secs(30));
            thread::yield_now();
        }
        assert_eq!(received, BTreeSet::from([ProjectId(3), ProjectId(4)]));
    }

    #[test]
    fn a_process_without_others_sends_no_hints() {
        let database = TestDatabase::create();
        let store = database.open();
        let mut channel = HintChannel::new(Uuid::now_v7());
        let written = BTreeSet::from([ProjectId(3)]);
        channel.exchange(&store, &written).unwrap();
        let before = store.statements.get();
        channel.exchange(&store, &written).unwrap();
        assert_eq!(store.statements.get(), before);
    }
}
