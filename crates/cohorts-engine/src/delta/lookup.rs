//! Persons and instants of events and dates in spans of time, from the blocks of a source.

use roaring::{MultiOps, RoaringBitmap};

use super::source::{DateColumn, DateQuery};
use crate::block::TimeSpan;
use crate::interrupt::Meter;
use crate::plan::Names;
use crate::source::{EventQuery, Source};

/// The names, or all names of the source.
pub(super) fn each_name<S: Source>(source: &S, names: &Names) -> Result<Vec<String>, S::Error> {
    match names {
        Some(names) => Ok(names.iter().cloned().collect()),
        None => source.event_names(),
    }
}

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
        let persons = blocks
            .iter()
            .map(|block| block.persons_between(*span, &meter));
        Ok(persons.collect::<Result<Vec<_>, _>>()?.union())
    };
    spans.iter().map(of_span).collect()
}

/// For each span, the persons with a date.
pub(super) fn persons_with_dates<S: Source>(
    source: &S,
    query: &DateQuery,
) -> Result<Vec<RoaringBitmap>, S::Error> {
    let meter = Meter::new(source);
    let (zone, spans) = (&query.at.time_zone, query.spans.iter());
    match query.column {
        DateColumn::Person(key) => {
            let block = source.person_property(key)?;
            let of_span = |span: &TimeSpan| block.persons_with_dates(*span, zone, &meter);
            spans.map(of_span).collect()
        }
        DateColumn::DistinctId => {
            let block = source.distinct_ids()?;
            let of_span = |span: &TimeSpan| block.persons_with_dates(*span, zone, &meter);
            spans.map(of_span).collect()
        }
        DateColumn::CreatedAt => {
            let block = source.created_at()?;
            let of_span = |span: &TimeSpan| block.persons_between(*span, &meter);
            spans.map(of_span).collect()
        }
        DateColumn::Event { event, property } => {
            let blocks = source.events(&with_property(event, property, query.from))?;
            let of_span = |span: &TimeSpan| {
                let persons = blocks.iter();
                let persons =
                    persons.map(|block| block.persons_with_dates(property, *span, zone, &meter));
                Ok(persons.collect::<Result<Vec<_>, _>>()?.union())
            };
            spans.map(of_span).collect()
        }
    }
}

/// The first instant in `span` at which an event of this name happened.
pub(super) fn first_event<S: Source>(
    source: &S,
    event: &str,
    span: TimeSpan,
) -> Result<Option<i64>, S::Error> {
    let meter = Meter::new(source);
    let blocks = source.events(&EventQuery {
        event: event.to_owned(),
        from: Some(span.first),
        to: span.last,
        properties: Vec::new(),
        persons_only: false,
    })?;
    let instants = blocks
        .iter()
        .map(|block| block.first_from(span.first, &meter));
    Ok(first_of(instants)?.filter(|first| *first <= span.last))
}

/// The first date of a column in the only span of a query.
pub(super) fn first_date<S: Source>(
    source: &S,
    query: &DateQuery,
    span: TimeSpan,
) -> Result<Option<i64>, S::Error> {
    let meter = Meter::new(source);
    let (zone, start) = (&query.at.time_zone, span.first);
    let first = match query.column {
        DateColumn::Person(key) => {
            let block = source.person_property(key)?;
            block.first_date_from(start, zone, &meter)?
        }
        DateColumn::DistinctId => {
            let block = source.distinct_ids()?;
            block.first_date_from(start, zone, &meter)?
        }
        DateColumn::CreatedAt => source.created_at()?.first_from(start, &meter)?,
        DateColumn::Event { event, property } => {
            let blocks = source.events(&with_property(event, property, query.from))?;
            let dates = blocks.iter();
            first_of(dates.map(|block| block.first_date_from(property, start, zone, &meter)))?
        }
    };
    Ok(first.filter(|first| *first <= span.last))
}

/// The smallest instant.
pub(super) fn first_of<E>(
    instants: impl Iterator<Item = Result<Option<i64>, E>>,
) -> Result<Option<i64>, E> {
    let mut first = None;
    for instant in instants {
        first = first.into_iter().chain(instant?).min();
    }
    Ok(first)
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
