//! Persons who move to the ordinals of merged persons.

use super::*;

#[test]
fn a_move_is_in_the_log_of_every_cohort_with_one_of_the_ordinals() {
    let fixture = LoggedProject::new(4);
    for (nth, members) in [&[1, 9][..], &[2, 9], &[1, 2, 9], &[9]].iter().enumerate() {
        fixture.add(nth, members);
    }
    let before = fixture.head().number;
    let moves = [Move { from: 2, into: 1 }];
    let conn = &mut *fixture.conn();
    transaction(conn, |conn| move_persons(conn, fixture.project, &moves)).unwrap();
    let page = fixture.feed(None, FeedPosition::after(before), 100);
    let (entered, left) = ((1, true), (2, false));
    let expected = [0, 1, 2].map(|nth: usize| (fixture.cohorts[nth].id, vec![entered, left]));
    let changes = page.changes.into_iter().map(|(row, changes)| {
        assert_eq!((row.cause.as_str(), row.count), ("merge", 2));
        let changes = changes.iter();
        let changes = changes.map(|change| (change.ordinal, change.has_entered));
        (row.cohort_id, changes.collect::<Vec<_>>())
    });
    assert_eq!(changes.collect::<Vec<_>>(), expected);
    for nth in 0..3 {
        assert_eq!(fixture.members(nth), set([1, 9]));
        assert_eq!(fixture.row(nth).count, Some(2));
    }
    fixture.check();
    fixture.move_into_one_minute("2 hours");
    fixture.compact_all();
    fixture.check();
}

#[test]
fn a_snapshot_in_parts_has_every_member_once() {
    let fixture = LoggedProject::new(1);
    let all = [0, 1, 65_535, 65_536, 200_000, 900_000, 9_000_000];
    fixture.add(0, &all);
    let (conn, cohort) = (&mut *fixture.conn(), fixture.cohorts[0].id());
    for count in 1..4 {
        let (mut read, mut first) = (Vec::new(), 0);
        loop {
            let part = snapshot(conn, fixture.project, cohort, (first, count));
            let part = part.unwrap().unwrap();
            read.extend(part.members.iter().take(count));
            if part.members.len() <= count as u64 {
                break;
            }
            first = read.last().unwrap() + 1;
        }
        assert_eq!(read, all, "{count}");
    }
    let part = snapshot(conn, fixture.project, cohort, (0, 2)).unwrap();
    assert_eq!(part.unwrap().members, set([0, 1, 65_535]));
}
