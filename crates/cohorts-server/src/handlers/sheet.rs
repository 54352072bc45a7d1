//! An uploaded CSV file of people: which column says who they are, and by what.
//!
//! The rules, and the wording of what is refused, are those of PostHog's cohort upload.

use std::fs::File;
use std::io::BufReader;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};

use crate::error::Error;

/// In bytes; a distinct id has 200 characters at most.
const LONGEST_ID: usize = 800;
/// Columns that are named in a refusal, and characters of each.
const NAMED: usize = 30;

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// The `id` of a person.
    Person,
    DistinctId,
    Email,
}

impl IdKind {
    /// What a header means, however it is written.
    fn of_header(header: &str) -> Option<Self> {
        let letters: String = header.chars().filter(char::is_ascii_alphanumeric).collect();
        match letters.to_ascii_lowercase().as_str() {
            "personid" => Some(Self::Person),
            "distinctid" => Some(Self::DistinctId),
            "email" => Some(Self::Email),
            _ => None,
        }
    }
}

/// The ids in a file, in its order; blank ones are left out.
#[derive(Debug)]
pub struct Sheet {
    pub kind: IdKind,
    column: usize,
    /// The first row, if it holds an id already.
    first: Option<String>,
    reader: Reader<BufReader<File>>,
}

impl Sheet {
    /// Reads as far as the first row.
    pub fn open(file: File) -> Result<Self, Error> {
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(BufReader::new(file));
        let mut row = StringRecord::new();
        if !reader.read_record(&mut row).map_err(unreadable)? {
            return Err(refused(
                "CSV file is empty. Please upload a CSV file with at least one row.",
            ));
        }
        let filled = row.iter().filter(|cell| !cell.trim().is_empty()).count();
        let (kind, column, first) = match filled {
            0 | 1 => single(row.get(0).unwrap_or_default()),
            _ => several(&row)?,
        };
        Ok(Self {
            kind,
            column,
            first,
            reader,
        })
    }
}

/// A file with one column: the first row is a header only if it names what the others are.
fn single(cell: &str) -> (IdKind, usize, Option<String>) {
    match IdKind::of_header(cell) {
        Some(kind @ (IdKind::Person | IdKind::Email)) => (kind, 0, None),
        _ => (IdKind::DistinctId, 0, Some(cell.to_owned())),
    }
}

/// The columns by which an export of a cohort's people is known; the last is the person's.
const EXPORT: [&str; 4] = ["created_at", "last_seen_at", "name", "id"];

/// A file with several columns: the first row names them. An export goes by the people's own ids, whatever else is in it.
fn several(header: &StringRecord) -> Result<(IdKind, usize, Option<String>), Error> {
    let exported = EXPORT.map(|name| header.iter().position(|cell| cell.trim() == name));
    if let [Some(_), Some(_), Some(_), Some(id)] = exported {
        return Ok((IdKind::Person, id, None));
    }
    for kind in [IdKind::Person, IdKind::DistinctId, IdKind::Email] {
        let found = header
            .iter()
            .position(|cell| IdKind::of_header(cell) == Some(kind));
        if let Some(column) = found {
            return Ok((kind, column, None));
        }
    }
    let named = header.iter().take(NAMED);
    let columns: Vec<String> = named
        .map(|cell| cell.trim().chars().take(NAMED).collect())
        .collect();
    Err(refused(format!(
        "CSV file must contain at least one column with a supported ID header: 'person_id', 'distinct_id' or 'email'. \
         Found columns: {}",
        columns.join(", ")
    )))
}

impl Iterator for Sheet {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut row = StringRecord::new();
        loop {
            let cell = match self.first.take() {
                Some(first) => first,
                None => match self.reader.read_record(&mut row) {
                    Ok(false) => return None,
                    Ok(true) => row.get(self.column).unwrap_or_default().to_owned(),
                    Err(cause) => return Some(Err(unreadable(cause))),
                },
            };
            let id = cell.trim();
            // No id in the database is longer or holds NUL, so such a one is nobody's.
            if !id.is_empty() && id.len() <= LONGEST_ID && !id.contains('\0') {
                return Some(Ok(id.to_owned()));
            }
        }
    }
}

/// Refuses a file without a single id in it.
pub fn without_ids() -> Error {
    refused("CSV file contains no valid person IDs, distinct IDs, or email addresses.")
}

fn refused(detail: impl Into<String>) -> Error {
    Error::field("csv", detail)
}

fn unreadable(cause: csv::Error) -> Error {
    match cause.kind() {
        ErrorKind::Utf8 { .. } => refused(
            "CSV file encoding is not supported. Please save the file as UTF-8 and try again.",
        ),
        ErrorKind::Io(_) => anyhow::Error::new(cause)
            .context("an upload cannot be read")
            .into(),
        _ => refused(format!("CSV file format is invalid: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn sheet(content: &[u8]) -> Result<(IdKind, Vec<String>), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        let sheet = Sheet::open(file).map_err(|error| error.to_string())?;
        let kind = sheet.kind;
        let ids = sheet.collect::<Result<Vec<_>, _>>();
        Ok((kind, ids.map_err(|error| error.to_string())?))
    }

    fn ids(content: &str) -> (IdKind, Vec<String>) {
        sheet(content.as_bytes()).unwrap()
    }

    #[test]
    fn of_one_column_every_row_is_a_distinct_id_unless_a_header_says_otherwise() {
        let expected = ["User ID", "e@x.io", "d1"].map(str::to_owned).to_vec();
        assert_eq!(
            ids("\n\nUser ID\ne@x.io\n\nd1\n"),
            (IdKind::DistinctId, expected)
        );
        for header in ["person_id", "person-id", "Person .id"] {
            let (kind, found) = ids(&format!("{header}\n a \n"));
            assert_eq!(
                (kind, found.as_slice()),
                (IdKind::Person, &["a".to_owned()][..]),
                "{header}"
            );
        }
        assert_eq!(ids("E-Mail\r\na@x.io\r\n").0, IdKind::Email);
        assert_eq!(ids("0\n\"a,1\"\n").1, ["0", "a,1"]);
        assert_eq!(ids("\u{feff}person_id\na\n").0, IdKind::Person);
    }

    #[test]
    fn of_several_columns_the_best_one_counts() {
        assert_eq!(
            ids("name,Distinct-ID,email\nn,d1,e\nn\nn, ,e\n,d2"),
            (IdKind::DistinctId, vec!["d1".to_owned(), "d2".to_owned()])
        );
        assert_eq!(
            ids("distinct_id,person_id\nd,p,more\n"),
            (IdKind::Person, vec!["p".to_owned()])
        );
        assert_eq!(
            ids("name, email \nn,e\n"),
            (IdKind::Email, vec!["e".to_owned()])
        );
    }

    #[test]
    fn what_is_no_such_file_is_refused_in_words() {
        let refused = |content: &[u8]| sheet(content).unwrap_err();
        assert!(refused(b"").contains("empty"));
        let columns = refused(b"name,age\nn,1\n");
        assert!(
            columns.contains("at least one column with a supported ID header"),
            "{columns}"
        );
        assert!(columns.ends_with("Found columns: name, age"), "{columns}");
        assert!(refused(b"d1\nJos\xe9\n").contains("encoding is not supported"));
    }
}
