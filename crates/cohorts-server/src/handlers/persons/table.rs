//! People as a table: a person's fields and nested properties flattened into columns, as PostHog's export has them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::SecondsFormat;
use cohorts_api::types::Person;
use serde_json::Value;

/// The columns of some people, by name.
pub type Columns = BTreeSet<String>;

/// A person's cells by their column.
pub fn cells(person: &Person) -> BTreeMap<String, String> {
    let mut cells = BTreeMap::new();
    let time =
        |time: &chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    cells.insert("created_at".to_owned(), time(&person.created_at));
    cells.insert("id".to_owned(), person.id.to_string());
    cells.insert(
        "last_seen_at".to_owned(),
        person.last_seen_at.as_ref().map(time).unwrap_or_default(),
    );
    cells.insert("name".to_owned(), person.name.clone());
    for (index, id) in person.distinct_ids.iter().enumerate() {
        cells.insert(format!("distinct_ids.{index}"), id.clone());
    }
    let mut properties = person.properties.parse();
    if let Some(properties) = properties.as_object_mut()
        && let Some(email) = properties.shift_remove("email")
    {
        flatten("email".to_owned(), &email, &mut cells);
    }
    flatten("properties".to_owned(), &properties, &mut cells);
    cells
}

/// Lists and objects become a column per part; empty ones have none.
fn flatten(column: String, value: &Value, cells: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(format!("{column}.{key}"), value, cells);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                flatten(format!("{column}.{index}"), value, cells);
            }
        }
        Value::Null => drop(cells.insert(column, String::new())),
        Value::Bool(true) => drop(cells.insert(column, "True".to_owned())),
        Value::Bool(false) => drop(cells.insert(column, "False".to_owned())),
        Value::Number(number) => drop(cells.insert(column, number.to_string())),
        Value::String(text) => drop(cells.insert(column, text.clone())),
    }
}

/// A person's cells in the order of the columns; those that the person has not are empty.
pub fn row<'a>(columns: &'a Columns, cells: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let cell = |column| cells.get(column).map_or("", String::as_str);
    columns.iter().map(cell).collect()
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

    #[test]
    fn nested_properties_become_columns_and_the_email_leaves_them() {
        let person = Person {
            type_: PersonType::Person,
            id: uuid::Uuid::nil(),
            uuid: uuid::Uuid::nil(),
            name: "Ana".to_owned(),
            distinct_ids: vec!["a".to_owned(), "b".to_owned()],
            properties: RawJson::from(&json!({
                "email": "a@x.org", "plan": "pro", "seats": 3, "addr": {"city": "Rome"},
                "tags": ["x", true], "none": null, "empty": {},
            })),
            created_at: chrono::DateTime::UNIX_EPOCH,
            last_seen_at: None,
            is_identified: None,
            matched_recordings: Vec::new(),
            value_at_data_point: None,
        };
        let cells: Vec<(String, String)> = cells(&person).into_iter().collect();
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
