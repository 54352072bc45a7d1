//! Persons as a CSV table: fields and nested properties are flattened into columns, as in PostHog's export.
//!
//! Texts that are formulas are escaped, unlike in PostHog's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use chrono::{DateTime, SecondsFormat, Utc};
use cohorts_api::types::Person;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::handlers::formula;

/// The columns of a table, sorted by name.
#[derive(Default)]
pub struct Columns {
    names: BTreeSet<String>,
    bytes: usize,
}

/// The table would exceed [`MAX_COLUMNS`] or the length of their names.
#[derive(Debug, PartialEq)]
pub struct TooWide;

pub const MAX_COLUMNS: usize = 10_000;
/// The most bytes of all column names together.
pub const MAX_NAME_BYTES: usize = 4 << 20;

fn check_width(columns: usize, bytes: usize) -> Result<(), TooWide> {
    if columns > MAX_COLUMNS || bytes > MAX_NAME_BYTES {
        return Err(TooWide);
    }
    Ok(())
}

impl Columns {
    pub fn add(&mut self, name: String) -> Result<(), TooWide> {
        if self.names.contains(&name) {
            return Ok(());
        }
        self.bytes += name.len();
        self.names.insert(name);
        check_width(self.names.len(), self.bytes)
    }

    /// The bytes of all names.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn into_names(self) -> impl Iterator<Item = String> {
        self.names.into_iter()
    }

    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
}

/// The cells of one person by column.
pub type Cells = BTreeMap<String, String>;

pub fn cells(person: &Person) -> Result<Cells, TooWide> {
    let mut cells = FlatCells::default();
    let time = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    cells.put("created_at".to_owned(), time(&person.created_at))?;
    cells.put("id".to_owned(), person.id.to_string())?;
    let seen = person.last_seen_at.as_ref().map(time).unwrap_or_default();
    cells.put("last_seen_at".to_owned(), seen)?;
    cells.put(
        "name".to_owned(),
        formula::escape(&person.name).into_owned(),
    )?;
    for (index, id) in person.distinct_ids.iter().enumerate() {
        let id = formula::escape(id).into_owned();
        cells.put(format!("distinct_ids.{index}"), id)?;
    }
    cells.flatten(person.properties.as_str())?;
    Ok(cells.cells)
}

/// The cells of one person, with the limits of a table.
#[derive(Default)]
struct FlatCells {
    cells: Cells,
    bytes: usize,
    is_too_wide: bool,
}

impl FlatCells {
    fn put(&mut self, column: String, cell: String) -> Result<(), TooWide> {
        self.bytes += column.len();
        self.cells.insert(column, cell);
        let result = check_width(self.cells.len(), self.bytes);
        self.is_too_wide = result.is_err();
        result
    }

    /// Adds a column for each leaf of the properties; empty lists and objects have no column.
    fn flatten(&mut self, properties: &str) -> Result<(), TooWide> {
        let leaves = Leaves {
            cells: self,
            column: PROPERTIES.to_owned(),
        };
        let mut parser = serde_json::Deserializer::from_str(properties);
        let result = leaves.deserialize(&mut parser);
        if self.is_too_wide {
            return Err(TooWide);
        }
        if result.is_err() {
            // JSON that Postgres accepts and serde_json does not, such as a number out of range.
            let is_property = |column: &String| {
                let first = column.split('.').next();
                first.is_some_and(|first| first == PROPERTIES || first == EMAIL)
            };
            self.cells.retain(|column, _| !is_property(column));
            self.put(PROPERTIES.to_owned(), String::new())?;
        }
        Ok(())
    }
}

const PROPERTIES: &str = "properties";
/// The property with a column of its own name.
const EMAIL: &str = "email";

/// Reads a value, and adds its leaves as cells without building the value.
struct Leaves<'a> {
    cells: &'a mut FlatCells,
    column: String,
}

impl Leaves<'_> {
    fn put<E: de::Error>(self, cell: impl ToString) -> Result<(), E> {
        let result = self.cells.put(self.column, cell.to_string());
        result.map_err(|_| E::custom("too wide"))
    }

    fn part(&mut self, name: impl Display) -> Leaves<'_> {
        let column = format!("{}.{name}", self.column);
        let is_email = column == "properties.email";
        Leaves {
            cells: &mut *self.cells,
            column: if is_email { EMAIL.to_owned() } else { column },
        }
    }
}

impl<'de> DeserializeSeed<'de> for Leaves<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Leaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.put("")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.put(if value { "True" } else { "False" })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.put(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.put(Value::from(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.put(formula::escape(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for nth in 0_usize.. {
            if list.next_element_seed(self.part(nth))?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self.part(key))?;
        }
        Ok(())
    }
}

/// The cells of a person in the order of the columns. Missing cells are empty.
pub fn row<'a>(columns: &'a Columns, cells: &'a Cells) -> Vec<&'a str> {
    let cell = |column| cells.get(column).map_or("", String::as_str);
    columns.names.iter().map(cell).collect()
}

/// CSV lines that end in CRLF.
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
    fn a_table_that_is_too_wide_is_an_error() {
        let many: Vec<u32> = (0..MAX_COLUMNS as u32).collect();
        assert_eq!(cells(&person(json!({"list": many}))), Err(TooWide));
        let long = json!({"k".repeat(MAX_NAME_BYTES / 100): vec![0; 200]});
        assert_eq!(cells(&person(long)), Err(TooWide));
        let mut columns = Columns::default();
        let added: Result<Vec<()>, TooWide> = (0..=MAX_COLUMNS)
            .map(|number| columns.add(number.to_string()))
            .collect();
        assert_eq!(added, Err(TooWide));
    }

    #[test]
    fn nested_properties_and_the_email_become_columns() {
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
    fn texts_that_are_formulas_are_escaped() {
        let mut person = person(json!({
            "email": "=a", "plan": "@a", "tags": ["'+a", -1, "-1"], "addr": {"=k": "=v"},
        }));
        person.name = "=a".to_owned();
        person.distinct_ids[0] = "-a".to_owned();
        let cells = cells(&person).unwrap();
        for (column, expected) in [
            ("name", "'=a"),
            ("distinct_ids.0", "'-a"),
            ("email", "'=a"),
            ("properties.plan", "'@a"),
            ("properties.tags.0", "''+a"),
            ("properties.tags.1", "-1"),
            ("properties.tags.2", "-1"),
            ("properties.addr.=k", "'=v"),
        ] {
            assert_eq!(cells[column], expected, "{column}");
        }
    }

    #[test]
    fn cells_with_commas_quotes_and_line_ends_are_quoted() {
        let rows = [vec!["a,b", "c\"d"], vec!["e\nf", ""]];
        let text = lines(rows.into_iter()).unwrap();
        assert_eq!(text, b"\"a,b\",\"c\"\"d\"\r\n\"e\nf\",\r\n");
    }
}
