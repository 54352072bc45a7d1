//! People as a table: a person's fields and nested properties flattened into columns, as PostHog's export has them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::SecondsFormat;
use cohorts_api::types::Person;
use serde_json::Value;

/// The columns of some people, by name.
#[derive(Default)]
pub struct Columns {
    names: BTreeSet<String>,
    bytes: usize,
}

/// There would be more columns than a table can have.
#[derive(Debug, PartialEq)]
pub struct TooWide;

/// Columns of a table, and what their names may take together, in bytes.
pub const WIDEST: usize = 10_000;
const NAMES: usize = 4 << 20;

impl Columns {
    pub fn add(&mut self, name: String) -> Result<(), TooWide> {
        if self.names.contains(&name) {
            return Ok(());
        }
        self.bytes += name.len();
        self.names.insert(name);
        match self.names.len() > WIDEST || self.bytes > NAMES {
            true => Err(TooWide),
            false => Ok(()),
        }
    }

    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}

/// A person's cells by their column.
pub type Cells = BTreeMap<String, String>;

pub fn cells(person: &Person) -> Result<Cells, TooWide> {
    let mut cells = Flat::default();
    let time =
        |time: &chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    cells.put("created_at".to_owned(), time(&person.created_at))?;
    cells.put("id".to_owned(), person.id.to_string())?;
    let seen = person.last_seen_at.as_ref().map(time).unwrap_or_default();
    cells.put("last_seen_at".to_owned(), seen)?;
    cells.put("name".to_owned(), person.name.clone())?;
    for (index, id) in person.distinct_ids.iter().enumerate() {
        cells.put(format!("distinct_ids.{index}"), id.clone())?;
    }
    let mut properties = person.properties.parse();
    if let Some(properties) = properties.as_object_mut()
        && let Some(email) = properties.shift_remove("email")
    {
        cells.flatten("email".to_owned(), &email)?;
    }
    cells.flatten("properties".to_owned(), &properties)?;
    Ok(cells.cells)
}

/// The cells of one person, no more than a table can have.
#[derive(Default)]
struct Flat {
    cells: Cells,
    bytes: usize,
}

impl Flat {
    fn put(&mut self, column: String, cell: String) -> Result<(), TooWide> {
        self.bytes += column.len();
        self.cells.insert(column, cell);
        match self.cells.len() > WIDEST || self.bytes > NAMES {
            true => Err(TooWide),
            false => Ok(()),
        }
    }

    /// Lists and objects become a column per part; empty ones have none.
    fn flatten(&mut self, column: String, value: &Value) -> Result<(), TooWide> {
        let cell = match value {
            Value::Object(map) => {
                let mut parts = map.iter();
                return parts
                    .try_for_each(|(key, value)| self.flatten(format!("{column}.{key}"), value));
            }
            Value::Array(list) => {
                let mut parts = list.iter().enumerate();
                return parts
                    .try_for_each(|(nth, value)| self.flatten(format!("{column}.{nth}"), value));
            }
            Value::Null => String::new(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
        };
        self.put(column, cell)
    }
}

/// A person's cells in the order of the columns; those that the person has not are empty.
pub fn row<'a>(columns: &'a Columns, cells: &'a Cells) -> Vec<&'a str> {
    let cell = |column| cells.get(column).map_or("", String::as_str);
    columns.names.iter().map(cell).collect()
}

/// Lines of CSV that end in CRLF.
pub fn lines<'a>(rows: impl Iterator<Item = Vec<&'a str>>) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    for row in rows {
        writer.write_record(row)?;
    }
    writer
        .into_inner()
        .map_err(|cause| cause.into_error().into())
}

#[cfg(test)]
mod tests {
    use cohorts_api::RawJson;
    use cohorts_api::types::PersonType;
    use serde_json::json;

    use super::*;

    fn person(properties: Value) -> Person {
        Person {
            type_: PersonType::Person,
            id: uuid::Uuid::nil(),
            uuid: uuid::Uuid::nil(),
            name: "Ana".to_owned(),
            distinct_ids: vec!["a".to_owned(), "b".to_owned()],
            properties: RawJson::from(&properties),
            created_at: chrono::DateTime::UNIX_EPOCH,
            last_seen_at: None,
            is_identified: None,
            matched_recordings: Vec::new(),
            value_at_data_point: None,
        }
    }

    #[test]
    fn what_is_too_wide_for_a_table_is_refused_before_it_is_made() {
        let many: Vec<u32> = (0..WIDEST as u32).collect();
        assert_eq!(cells(&person(json!({"list": many}))), Err(TooWide));
        let long = json!({"k".repeat(NAMES / 100): vec![0; 200]});
        assert_eq!(cells(&person(long)), Err(TooWide));
        let mut columns = Columns::default();
        let added: Result<Vec<()>, TooWide> = (0..=WIDEST)
            .map(|number| columns.add(number.to_string()))
            .collect();
        assert_eq!(added, Err(TooWide));
    }

    #[test]
    fn nested_properties_become_columns_and_the_email_leaves_them() {
        let person = person(json!({
            "email": "a@x.org", "plan": "pro", "seats": 3, "addr": {"city": "Rome"},
            "tags": ["x", true], "none": null, "empty": {},
        }));
        let cells: Vec<(String, String)> = cells(&person).unwrap().into_iter().collect();
        let expected = [
            ("created_at", "1970-01-01T00:00:00Z"),
            ("distinct_ids.0", "a"),
            ("distinct_ids.1", "b"),
            ("email", "a@x.org"),
            ("id", "00000000-0000-0000-0000-000000000000"),
            ("last_seen_at", ""),
            ("name", "Ana"),
            ("properties.addr.city", "Rome"),
            ("properties.none", ""),
            ("properties.plan", "pro"),
            ("properties.seats", "3"),
            ("properties.tags.0", "x"),
            ("properties.tags.1", "True"),
        ];
        let expected = expected.map(|(column, cell)| (column.to_owned(), cell.to_owned()));
        assert_eq!(cells, expected);
    }

    #[test]
    fn cells_with_commas_quotes_and_line_ends_are_quoted() {
        let rows = [vec!["a,b", "c\"d"], vec!["e\nf", ""]];
        let text = lines(rows.into_iter()).unwrap();
        assert_eq!(text, b"\"a,b\",\"c\"\"d\"\r\n\"e\nf\",\r\n");
    }
}
