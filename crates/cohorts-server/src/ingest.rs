//! From items of a batch, in the wire format, to events and people in the store.
//!
//! Capture, import and the demo all come this way. An item is either read whole or refused with its reason;
//! what a batch holds is committed together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::thread;
use std::time::Duration;

use chrono::{NaiveDate, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::Error;
use crate::store::events::{self, NewEvent};
use crate::store::persons::{self, Person};
use crate::store::{Conn, JsonText, Place, ProjectId, QueryResult, Store, forgotten};

mod item;

pub use item::{Arrival, Item, LONGEST_NAME, Refusal, instant, sent_uuid};

/// A lost connection or a conflict is tried again that often.
const TRIES: u32 = 3;

/// Keeps a batch: people are made and changed, and the events stand in the log. What was kept before counts once.
/// Returns how many events are new. May be repeated, and repeats itself where the database was not available.
pub fn keep(store: &Store, project: ProjectId, items: &[Item]) -> Result<usize, Error> {
    retried(|| keep_once(store, project.place(), items))
}

/// Repeats work that can be repeated, where the database was not available or somebody else was in the way.
pub fn retried<T>(mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match work() {
            Err(Error::Unavailable) if tries < TRIES => {
                thread::sleep(Duration::from_millis(50) * tries);
                tries += 1;
            }
            done => return done,
        }
    }
}

fn keep_once(store: &Store, place: Place, items: &[Item]) -> Result<usize, Error> {
    if items.is_empty() {
        return Ok(0);
    }
    let mut pooled = store.connection()?;
    let conn = &mut *pooled;
    let told = |item: &'_ Item| [Some(item.distinct_id.clone()), item.other_id.clone()];
    let ids: BTreeSet<String> = items.iter().flat_map(told).flatten().collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let known = persons::numbers_of(conn, place, &ids)?;
    let taken = store.numbers.take(conn, place, ids.len() - known.len())?;
    let wanted = wanted_ids(items, &known, &taken);
    let taken: HashSet<i64> = taken.into_iter().collect();
    conn.build_transaction().run(|conn| {
        let mut numbers = known;
        let claimed = persons::claim_ids(conn, place, &wanted)?;
        let made = claimed.values().filter(|number| taken.contains(number));
        let made: HashSet<i64> = made.copied().collect();
        numbers.extend(claimed);
        // What is told again must not undo what was told since.
        let days: Vec<NaiveDate> = items
            .iter()
            .map(|item| item.timestamp.date_naive())
            .collect();
        let uuids: Vec<Uuid> = items.iter().map(|item| item.uuid).collect();
        let told_before = events::known(conn, place, &days, &uuids)?;
        let people = told_people(conn, place, items, &told_before, &numbers, &made)?;
        let mut rows: Vec<NewEvent> = items.iter().map(|item| row(item, &numbers)).collect();
        // The log is locked from here to the commit.
        let batch = events::raise_head(conn, place)?;
        if forgotten::any(conn, place, numbers.values().copied())? {
            // Somebody was deleted since the distinct ids were read: the next try makes a new person.
            return Err(Error::Unavailable);
        }
        persons::upsert(conn, place, batch, &people)?;
        Ok(events::append(conn, place, batch, &mut rows)?)
    })
}

/// Whose each distinct id is to be that nobody has yet: of whoever has another id of the same person, else of
/// somebody new. Two people who turn out to be one stay two.
fn wanted_ids<'a>(
    items: &'a [Item],
    known: &HashMap<String, i64>,
    free: &[i64],
) -> BTreeMap<&'a str, i64> {
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    let mut free = free.iter().copied();
    for item in items {
        let ids = [Some(item.distinct_id.as_str()), item.other_id.as_deref()];
        let number = |id: &str| known.get(id).or(wanted.get(id)).copied();
        let theirs = ids.into_iter().flatten().find_map(number);
        let Some(theirs) = theirs.or_else(|| free.next()) else {
            continue;
        };
        for id in ids.into_iter().flatten() {
            if !known.contains_key(id) {
                wanted.entry(id).or_insert(theirs);
            }
        }
    }
    wanted
}

fn row(item: &Item, numbers: &HashMap<String, i64>) -> NewEvent {
    NewEvent {
        uuid: item.uuid,
        number: numbers[&item.distinct_id],
        event: item.event.clone(),
        distinct_id: item.distinct_id.clone(),
        timestamp: item.timestamp,
        properties: JsonText(Value::Object(item.properties.clone()).to_string()),
    }
}

/// The people who are new, and those of whom the items tell something, as they are after it.
fn told_people(
    conn: &mut Conn,
    place: Place,
    items: &[Item],
    told_before: &HashSet<(NaiveDate, Uuid)>,
    numbers: &HashMap<String, i64>,
    made: &HashSet<i64>,
) -> QueryResult<Vec<Person>> {
    let mut told: BTreeMap<i64, Vec<&Item>> = BTreeMap::new();
    for item in items {
        let number = numbers[&item.distinct_id];
        let is_made = made.contains(&number);
        if is_made || item.tells_of_person() {
            let items = told.entry(number).or_default();
            if !told_before.contains(&(item.timestamp.date_naive(), item.uuid)) {
                items.push(item);
            }
        }
    }
    let known: Vec<i64> = told
        .keys()
        .copied()
        .filter(|number| !made.contains(number))
        .collect();
    let mut people = persons::lock(conn, place, &known)?;
    let before: HashMap<i64, Person> = people
        .iter()
        .map(|person| (person.number, person.clone()))
        .collect();
    // Of somebody new there may be nothing but another distinct id.
    let items = |number: i64| told.get(&number).map_or(&[][..], Vec::as_slice);
    people.extend(
        made.iter()
            .map(|number| new_person(*number, items(*number))),
    );
    people.sort_by_key(|person| person.number);
    for person in &mut people {
        let number = person.number;
        tell(person, items(number));
    }
    people.retain(|person| before.get(&person.number) != Some(person));
    Ok(people)
}

/// Somebody by a distinct id.
pub struct Known {
    pub number: i64,
    /// Whether the person was made for it.
    pub is_new: bool,
}

/// Makes a person for each of these distinct ids that nobody has, and tells whose each is.
/// With `by_email` they are e-mail addresses, and become that property too.
pub fn make_people(
    store: &Store,
    conn: &mut Conn,
    project: ProjectId,
    ids: &[&str],
    by_email: bool,
) -> Result<HashMap<String, Known>, Error> {
    let place = project.place();
    let ids: BTreeSet<&str> = ids.iter().copied().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let numbers = store.numbers.take(conn, place, ids.len())?;
    let wanted: BTreeMap<&str, i64> = ids.into_iter().zip(numbers).collect();
    conn.build_transaction().run(|conn| {
        let claimed = persons::claim_ids(conn, place, &wanted)?;
        let mut people = Vec::new();
        let mut known = HashMap::new();
        for (id, number) in claimed {
            let is_new = wanted.get(id.as_str()) == Some(&number);
            if is_new {
                let mut person = new_person(number, &[]);
                if by_email {
                    person.properties = JsonText::of(&json!({"email": id}));
                }
                people.push(person);
            }
            known.insert(id, Known { number, is_new });
        }
        people.sort_by_key(|person| person.number);
        let batch = events::raise_head(conn, place)?;
        persons::upsert(conn, place, batch, &people)?;
        Ok(known)
    })
}

fn new_person(number: i64, items: &[&Item]) -> Person {
    let first = items.iter().map(|item| item.timestamp).min();
    Person {
        number,
        uuid: Uuid::now_v7(),
        properties: JsonText("{}".to_owned()),
        is_identified: false,
        created_at: first.unwrap_or_else(Utc::now),
    }
}

/// `$set` replaces, `$unset` takes away and `$set_once` only adds, in the order of the items.
fn tell(person: &mut Person, items: &[&Item]) {
    let Value::Object(before) = person.properties.parse() else {
        return;
    };
    let mut properties = before.clone();
    for item in items {
        properties.extend(item.set.clone());
        for key in &item.unset {
            properties.shift_remove(key);
        }
        for (key, value) in &item.set_once {
            properties
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        person.is_identified |= item.event == "$identify";
    }
    if properties != before {
        person.properties = JsonText(Value::Object(properties).to_string());
    }
}
