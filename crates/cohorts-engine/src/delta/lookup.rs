//! Persons and instants of events and dates in spans of time, from the blocks of a source.

use roaring::{MultiOps, RoaringBitmap};

use super::source::DateColumn;
use crate::block::TimeSpan;
use crate::interrupt::Meter;
use crate::source::{EventQuery, Source};
use crate::window::Moment;

/// For each span, the persons with an event of this name.
pub(super) fn persons_between<S: Source>(
    source: &S,
    event: &str,
    spans: &[TimeSpan],
) -> Result<Vec<RoaringBitmap>, S::Error> {
    let meter = Meter::new(source);
    let of_span = |span: &TimeSpan| {
        let blocks = source.events(&EventQuery {
            event: event.to_owned(),
            from: Some(span.first),
            to: span.last,
            properties: Vec::new(),
            persons_only: true,
        })?;
        meter.spend(100 * blocks.len() as u64)?;
        let persons = blocks.iter().map(|block| block.persons_between(*span));
        Ok(persons.collect::<Vec<_>>().union())
    };
    spans.iter().map(of_span).collect()
}

/// For each span, the persons with a date.
pub(super) fn persons_with_dates<S: Source>(
    source: &S,
    column: &DateColumn,
    spans: &[TimeSpan],
    at: &Moment,
) -> Result<Vec<RoaringBitmap>, S::Error> {
    let zone = &at.time_zone;
    let spans = spans.iter();
    Ok(match column {
        DateColumn::Person(key) => {
            let block = source.person_property(key)?;
            spans
                .map(|span| block.persons_with_dates(*span, zone))
                .collect()
        }
        DateColumn::DistinctId => {
            let block = source.distinct_ids()?;
            spans
                .map(|span| block.persons_with_dates(*span, zone))
                .collect()
        }
        DateColumn::CreatedAt => {
            let block = source.created_at()?;
            spans.map(|span| block.persons_between(*span)).collect()
        }
        DateColumn::Event {
            event,
            property,
            from,
        } => {
            let blocks = source.events(&with_property(event, property, *from))?;
            let of_span = |span: &TimeSpan| {
                let persons = blocks.iter();
                let persons =
                    persons.map(|block| block.persons_with_dates(property, &[*span], zone));
                persons.collect::<Vec<_>>().union()
            };
            spans.map(of_span).collect()
        }
    })
}

/// The first instant in `span` at which an event of this name happened.
pub(super) fn first_event<S: Source>(
    source: &S,
    event: &str,
    span: TimeSpan,
) -> Result<Option<i64>, S::Error> {
    let blocks = source.events(&EventQuery {
        event: event.to_owned(),
        from: Some(span.first),
        to: span.last,
        properties: Vec::new(),
        persons_only: false,
    })?;
    let first = blocks
        .iter()
        .filter_map(|block| block.first_from(span.first));
    Ok(first.min().filter(|first| *first <= span.last))
}

/// The first date of a column in `span`.
pub(super) fn first_date<S: Source>(
    source: &S,
    column: &DateColumn,
    span: TimeSpan,
    at: &Moment,
) -> Result<Option<i64>, S::Error> {
    let zone = &at.time_zone;
    let first = match column {
        DateColumn::Person(key) => {
            let block = source.person_property(key)?;
            block.first_date_from(span.first, zone)
        }
        DateColumn::DistinctId => source.distinct_ids()?.first_date_from(span.first, zone),
        DateColumn::CreatedAt => source.created_at()?.first_from(span.first),
        DateColumn::Event {
            event,
            property,
            from,
        } => {
            let blocks = source.events(&with_property(event, property, *from))?;
            let first = blocks.iter();
            let first = first.filter_map(|block| block.first_date_from(property, span.first, zone));
            first.min()
        }
    };
    Ok(first.filter(|first| *first <= span.last))
}

fn with_property(event: &str, property: &str, from: i64) -> EventQuery {
    EventQuery {
        event: event.to_owned(),
        from: (from > i64::MIN).then_some(from),
        to: i64::MAX,
        properties: vec![property.to_owned()],
        persons_only: false,
    }
}
