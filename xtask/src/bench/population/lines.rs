//! The lines and the tables of persons and events.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use chrono::SecondsFormat;

use super::{EVENTS, Event, Person, Population, instant};

/// Writes the line of a person, in the format of `cohorts import`. `line` is a buffer.
pub fn write_person(person: &Person, line: &mut String, out: &mut impl Write) -> Result<()> {
    line.clear();
    let Person {
        index,
        signed_up,
        plan,
        country,
        age,
        email,
        company,
    } = person;
    let (uuid, time) = (
        uuid(*signed_up, *index, 0),
        instant(*signed_up).to_rfc3339(),
    );
    write!(
        line,
        r#"{{"event":"$set","distinct_id":"p{index}","uuid":"{uuid}","timestamp":"{time}","properties":{{"$set":{{"plan":"{plan}","country":"{country}","age":{age},"email":"{email}","company":"company-{company}","signed_up":"{time}"}}}}}}"#,
    )?;
    Ok(writeln!(out, "{line}")?)
}

/// Writes the line of an event, in the format of `cohorts import`. `line` is a buffer. Events with different `index` have
/// different uuids.
pub fn write_event(
    index: usize,
    event: &Event,
    line: &mut String,
    out: &mut impl Write,
) -> Result<()> {
    line.clear();
    write!(
        line,
        r#"{{"event":"{}","distinct_id":"p{}","uuid":"{}","timestamp":"{}","properties":{{"$browser":"{}","$current_url":"https://app.example.com/p/{}/section-{}""#,
        EVENTS[event.name],
        event.person,
        uuid(event.time, index, 1),
        instant(event.time).to_rfc3339(),
        event.browser,
        event.page % 40,
        event.page,
    )?;
    if let Some(cents) = event.price {
        write!(line, r#","price":{}"#, f64::from(cents) / 100.0)?;
    }
    Ok(writeln!(out, "{line}}}}}")?)
}

/// Writes the population as two CSV tables with header lines. No value needs quotes.
pub fn write_tables(
    population: &Population,
    person_table: &mut impl Write,
    event_table: &mut impl Write,
) -> Result<()> {
    let text = |time: i64| instant(time).to_rfc3339_opts(SecondsFormat::Millis, true);
    writeln!(
        person_table,
        "person,plan,country,age,email,company,signed_up"
    )?;
    for person in population.persons() {
        let Person {
            index,
            signed_up,
            plan,
            country,
            age,
            email,
            company,
        } = person;
        let time = text(signed_up);
        writeln!(
            person_table,
            "{index},{plan},{country},{age},{email},company-{company},{time}"
        )?;
    }
    person_table.flush()?;
    writeln!(event_table, "event,name,time,person,browser,url,price")?;
    for event in population.events() {
        let Event {
            person,
            name,
            browser,
            page,
            ..
        } = event;
        let (name_text, time, section) = (EVENTS[name], text(event.time), page % 40);
        write!(
            event_table,
            "{name},{name_text},{time},{person},{browser},https://app.example.com/p/{section}/section-{page},"
        )?;
        match event.price {
            Some(cents) => writeln!(event_table, "{}", f64::from(cents) / 100.0)?,
            None => writeln!(event_table)?,
        }
    }
    Ok(event_table.flush()?)
}

/// Returns a deterministic version 7 UUID. `kind` is 0 for persons and 1 for events.
fn uuid(millis: i64, index: usize, kind: u64) -> String {
    let tail = (index as u64) << 1 | kind;
    format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        tail & 0xfff,
        (tail >> 12) & 0xfff,
        tail
    )
}
