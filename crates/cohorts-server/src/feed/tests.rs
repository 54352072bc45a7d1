//! Pages of a feed over a real database, while the log expires and is compacted.

mod merges;

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_store::changes::{self, Cause, compact, retention};
use cohorts_store::definition::Definition;
use cohorts_store::testing::TestDatabase;
use cohorts_store::{PooledConn, ProjectId, Store, cohorts, keys, projects, transaction};
use roaring::RoaringBitmap;

use super::*;
use crate::ingest::{Arrival, Item, commit};

/// A project with a static cohort in a database of its own.
struct FeedFixture {
    store: crate::index::IndexedStore,
    project: ProjectId,
    cohort: cohorts::Cohort,
    // Dropped after the store, which has connections to it.
    _database: TestDatabase,
}

impl FeedFixture {
    /// With persons `p0` and so on, in the order of their ordinals.
    fn new(persons: usize) -> Self {
        let database = TestDatabase::create();
        let store = crate::index::IndexedStore::new(Store::open(&database.url()).unwrap());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = true;
        let cohort = cohorts::create(conn, project, &owner, &definition).unwrap();
        let fixture = Self {
            store: store.clone(),
            project,
            cohort,
            _database: database,
        };
        let event = |id| format!(r#"{{"event": "x", "distinct_id": "p{id}"}}"#);
        fixture.capture((0..persons).map(event));
        fixture
    }

    /// Commits events in one batch.
    fn capture(&self, events: impl Iterator<Item = String>) {
        let read = |text: String| Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7);
        let items: Vec<Item> = events.map(|text| read(text).unwrap()).collect();
        commit(&self.store, self.project, &items).unwrap();
    }

    fn conn(&self) -> PooledConn {
        self.store.connection().unwrap()
    }

    fn set(&self, members: impl IntoIterator<Item = u32>) {
        let members: RoaringBitmap = members.into_iter().collect();
        let edit = transaction(&mut self.conn(), |conn| {
            changes::edit(conn, &(&self.cohort).into(), Cause::Manual, |_| Ok(members))
        });
        edit.unwrap();
    }

    fn feed(&self) -> Feed {
        Feed::new(self.project, Some(vec![self.cohort.id]))
    }

    fn page(&self, cursor: &FeedCursor, limit: usize) -> Option<ChangeRows> {
        self.feed().page(&mut self.conn(), cursor, limit).unwrap()
    }

    /// Compacts all changes, as in two days.
    fn compact(&self) {
        let later = Utc::now() + TimeDelta::days(2);
        let compact = || compact::compact_next(&mut self.conn(), &self.head(), later);
        while compact().unwrap().is_some() {}
    }

    fn head(&self) -> ChangeHead {
        self.feed().head(&mut self.conn()).unwrap().unwrap()
    }
}

/// The ordinals are those of the persons in order, so the first distinct ids tell them.
fn summary(rows: &ChangeRows) -> Vec<String> {
    let short = |row: &FeedRow| {
        let sign = match row.change.change {
            ChangeKind::Entered => '+',
            ChangeKind::Left => '-',
        };
        format!("{sign}{}", row.change.person.distinct_ids[0])
    };
    rows.rows.iter().map(short).collect()
}

#[test]
fn a_cursor_expires_with_the_changes_after_it() {
    let fixture = FeedFixture::new(4);
    let start = fixture.feed().now(&mut fixture.conn()).unwrap();
    for count in 1..=4 {
        fixture.set(0..count);
    }
    let first = fixture.page(&start, 2).unwrap();
    assert_eq!((summary(&first).len(), first.has_more), (2, true));
    let since = first.rows[1].change.at;
    let deleted = retention::delete_oldest(
        &mut fixture.conn(),
        &fixture.head(),
        DateTime::<Utc>::MAX_UTC,
        3,
    );
    assert_eq!(deleted.unwrap(), 3);
    assert_eq!(fixture.page(&start, 10), None);
    assert_eq!(fixture.page(&first.cursor, 10), None);
    let feed = fixture.feed();
    assert_eq!(feed.since(&mut fixture.conn(), since).unwrap(), None);
    let rest = Utc::now() + TimeDelta::hours(1);
    assert!(feed.since(&mut fixture.conn(), rest).unwrap().is_some());
    let members = fixture.page(&feed.start(), 10).unwrap();
    assert_eq!(summary(&members), ["+p0", "+p1", "+p2", "+p3"]);
    assert!(!members.has_more);
}

#[test]
fn purged_person_leaves_the_feed_with_the_changes_that_name_it() {
    let fixture = FeedFixture::new(3);
    let conn = &mut *fixture.conn();
    let (project, feed) = (fixture.project, fixture.feed());
    let start = feed.now(conn).unwrap();
    fixture.set([0, 1]);
    fixture.set([1]);
    let middle = feed.now(conn).unwrap();
    let before = Utc::now();
    fixture.set([1, 2]);
    let retire = |conn: &mut Conn| {
        let seq = cohorts_store::events::begin_write(conn, project.shard_key())?;
        cohorts_store::persons::delete(conn, project.shard_key(), seq, 0)
    };
    transaction(conn, retire).unwrap();
    let page = fixture.page(&start, 10).unwrap();
    assert_eq!(page.rows[0].change.person.deleted, Some(true));
    let early = changes::plan_purge(conn, project, before - TimeDelta::hours(1)).unwrap();
    assert_eq!(early.count(), 0, "newer changes name the person");
    let plan = changes::plan_purge(conn, project, before).unwrap();
    assert_eq!(plan.count(), 1);
    changes::purge(conn, project, &plan).unwrap();
    assert_eq!(fixture.page(&start, 10), None);
    let rest = fixture.page(&middle, 10).unwrap();
    assert_eq!(summary(&rest), ["+p2"]);
    let plan = changes::plan_purge(conn, project, Utc::now()).unwrap();
    assert_eq!(plan.count(), 0);
}

#[test]
fn rows_repeat_after_a_compaction_and_end_with_the_members() {
    let fixture = FeedFixture::new(3);
    let start = fixture.feed().now(&mut fixture.conn()).unwrap();
    fixture.set([0]);
    fixture.set([0, 1]);
    let middle = fixture.feed().now(&mut fixture.conn()).unwrap();
    fixture.set([1]);
    fixture.set([1, 2]);
    fixture.compact();
    for cursor in [start, middle] {
        let page = fixture.page(&cursor, 10).unwrap();
        let members = summary(&page);
        // The changes of two minutes may be two rows.
        for row in ["-p0", "+p2"] {
            assert!(members.iter().any(|one| one == row), "{members:?}");
        }
        assert_eq!(
            members.iter().rfind(|row| row.ends_with("p0")).unwrap(),
            "-p0"
        );
        assert!(!page.has_more);
    }
}

#[test]
fn members_in_pages_continue_from_each_row() {
    let fixture = FeedFixture::new(5);
    fixture.set([0, 1, 3]);
    let feed = fixture.feed();
    let all = fixture.page(&feed.start(), 10).unwrap();
    assert_eq!(summary(&all), ["+p0", "+p1", "+p3"]);
    fixture.set([1, 2, 3, 4]);
    for (at, row) in all.rows.iter().enumerate() {
        let rest = fixture.page(&row.cursor, 10).unwrap();
        let members: Vec<_> = ["+p1", "+p2", "+p3", "+p4"]
            .into_iter()
            .skip([0, 1, 3][at])
            .collect();
        let expected = [&members[..], &["-p0", "+p2", "+p4"]].concat();
        assert_eq!(summary(&rest), expected);
    }
}
