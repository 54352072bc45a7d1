//! An uploaded CSV file of people: which column says who they are, and by what.
//!
//! The rules, and the wording of what is refused, are those of PostHog's cohort upload.

use std::fs::File;
use std::io::{self, Read, Seek};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use uuid::Uuid;

use crate::error::Error;
use crate::ingest::LONGEST_NAME;

/// In bytes, of an e-mail address.
const LONGEST_ID: usize = 800;
/// The longest cell, in characters: that of Python's reader, which PostHog uses.
const LONGEST_CELL: usize = 131_072;
/// The longest row, in bytes, about.
const LONGEST_ROW: usize = 1 << 20;
/// Characters that are shown of an id that cannot be anybody's.
const SHOWN: usize = 200;
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
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person_id",
            Self::DistinctId => "distinct_id",
            Self::Email => "email",
        }
    }

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

/// The rows of a file, in its order, without those that have nothing in them.
#[derive(Debug)]
pub struct Sheet {
    pub kind: IdKind,
    column: usize,
    /// The first row, if it holds an id already.
    first: Option<Row>,
    reader: Reader<Bounded>,
    line_end: &'static [u8],
}

/// One row: the line that it begins on, and whom it names.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub line: u64,
    pub id: String,
    /// Why the id cannot be anybody's.
    pub fault: Option<&'static str>,
}

impl Sheet {
    /// Reads as far as the first row.
    pub fn open(mut file: File) -> Result<Self, Error> {
        let line_end = line_end(&mut file).map_err(anyhow::Error::from)?;
        let file = Bounded {
            file: file.chain(line_end),
            left: LONGEST_ROW,
        };
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(file);
        let mut row = StringRecord::new();
        if !reader.read_record(&mut row).map_err(unreadable)? {
            return Err(refused(
                "CSV file is empty. Please upload a CSV file with at least one row.",
            ));
        }
        checked(&row)?;
        let filled = row.iter().filter(|cell| !cell.trim().is_empty()).count();
        let (kind, column, is_header) = match filled {
            0 | 1 => single(row.get(0).unwrap_or_default()),
            _ => several(&row)?,
        };
        let mut sheet = Self {
            kind,
            column,
            first: None,
            reader,
            line_end,
        };
        sheet.first = (!is_header && filled > 0).then(|| sheet.read(&row));
        Ok(sheet)
    }

    /// Reads the row that the reader has just given.
    fn read(&self, row: &StringRecord) -> Row {
        let (kind, column) = (self.kind, self.column);
        let id = row.get(column).unwrap_or_default().trim();
        let fault = if id.is_empty() {
            Some("There is no id in this row.")
        } else if id.len() > LONGEST_ID
            || (kind == IdKind::DistinctId && id.chars().count() > LONGEST_NAME)
        {
            Some("The id is longer than any can be.")
        } else if id.contains('\0') {
            Some("The id holds the character NUL.")
        } else if kind == IdKind::Person && Uuid::parse_str(id).is_err() {
            Some("The id is no UUID.")
        } else {
            None
        };
        let newlines = row.as_slice().bytes().filter(|byte| *byte == b'\n').count() as u64;
        // Of a CRLF the reader has not passed the LF yet, when it gives the row before it.
        let passed = newlines + u64::from(self.line_end == b"\n");
        Row {
            line: self.reader.position().line().saturating_sub(passed),
            id: match fault {
                Some(_) => id.chars().take(SHOWN).collect(),
                None => id.to_owned(),
            },
            fault,
        }
    }
}

/// What the first line of a file ends with.
fn line_end(file: &mut File) -> io::Result<&'static [u8]> {
    let mut beginning = Vec::new();
    file.by_ref()
        .take(LONGEST_ROW as u64)
        .read_to_end(&mut beginning)?;
    file.rewind()?;
    let end = beginning.iter().position(|byte| *byte == b'\n');
    let is_crlf = end.is_some_and(|end| end > 0 && beginning[end - 1] == b'\r');
    Ok(if is_crlf { b"\r\n" } else { b"\n" })
}

impl Row {
    /// Whether there is any id, be it somebody's or not.
    pub fn has_id(&self) -> bool {
        !self.id.is_empty()
    }
}

/// A file of which only so much is read for one row.
#[derive(Debug)]
struct Bounded {
    /// With a line end behind it, for a last line that has none.
    file: io::Chain<File, &'static [u8]>,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.left = self
            .left
            .checked_sub(read)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// A file with one column: the first row is a header only if it names what the others are.
fn single(cell: &str) -> (IdKind, usize, bool) {
    match IdKind::of_header(cell) {
        Some(kind @ (IdKind::Person | IdKind::Email)) => (kind, 0, true),
        _ => (IdKind::DistinctId, 0, false),
    }
}

/// The columns by which an export of a cohort's people is known; the last is the person's.
const EXPORT: [&str; 5] = ["created_at", "last_seen_at", "name", "distinct_ids.0", "id"];

/// A file with several columns: the first row names them. An export goes by the people's own ids, whatever else is in it.
fn several(header: &StringRecord) -> Result<(IdKind, usize, bool), Error> {
    let exported = EXPORT.map(|name| header.iter().position(|cell| cell.trim() == name));
    if let [Some(_), Some(_), Some(_), Some(_), Some(id)] = exported {
        return Ok((IdKind::Person, id, true));
    }
    for kind in [IdKind::Person, IdKind::DistinctId, IdKind::Email] {
        let found = header
            .iter()
            .position(|cell| IdKind::of_header(cell) == Some(kind));
        if let Some(column) = found {
            return Ok((kind, column, true));
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
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let mut row = StringRecord::new();
        loop {
            self.reader.get_mut().left = LONGEST_ROW;
            match self.reader.read_record(&mut row) {
                Ok(false) => return None,
                Ok(true) if row.iter().all(|cell| cell.trim().is_empty()) => {}
                Ok(true) => return Some(checked(&row).map(|()| self.read(&row))),
                Err(cause) => return Some(Err(unreadable(cause))),
            }
        }
    }
}

fn checked(row: &StringRecord) -> Result<(), Error> {
    let long = |cell: &str| cell.len() > LONGEST_CELL && cell.chars().count() > LONGEST_CELL;
    match row.iter().any(long) {
        false => Ok(()),
        true => Err(refused(format!(
            "CSV file format is invalid: a field is longer than {LONGEST_CELL} characters."
        ))),
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
        ErrorKind::Io(cause) if cause.kind() == io::ErrorKind::FileTooLarge => refused(format!(
            "CSV file format is invalid: a row is longer than {LONGEST_ROW} bytes; a quotation mark may be open."
        )),
        ErrorKind::Io(_) => anyhow::Error::new(cause)
            .context("an upload cannot be read")
            .into(),
        _ => refused(format!("CSV file format is invalid: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn rows(content: &[u8]) -> Result<(IdKind, Vec<Row>), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        let sheet = Sheet::open(file).map_err(|error| error.to_string())?;
        let kind = sheet.kind;
        let rows = sheet.collect::<Result<Vec<_>, _>>();
        Ok((kind, rows.map_err(|error| error.to_string())?))
    }

    fn ids(content: &str) -> (IdKind, Vec<String>) {
        let (kind, rows) = rows(content.as_bytes()).unwrap();
        let ids = rows.into_iter().filter(Row::has_id).map(|row| row.id);
        (kind, ids.collect())
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
        let refused = |content: &[u8]| rows(content).unwrap_err();
        assert!(refused(b"").contains("empty"));
        let columns = refused(b"name,age\nn,1\n");
        assert!(
            columns.contains("at least one column with a supported ID header"),
            "{columns}"
        );
        assert!(columns.ends_with("Found columns: name, age"), "{columns}");
        assert!(refused(b"d1\nJos\xe9\n").contains("encoding is not supported"));
        let long = format!("d1\n{}\n", "a".repeat(LONGEST_CELL + 1));
        assert!(refused(long.as_bytes()).contains("file format is invalid"));
        let endless = format!("d1\n\"{}", "a\n".repeat(LONGEST_ROW));
        assert!(refused(endless.as_bytes()).contains("a row is longer than"));
    }

    #[test]
    fn a_row_without_a_good_id_is_known_by_its_line_and_fault() {
        let text = "name,person_id\nAna,\n,,\n\nBob,7\n\"C\nD\",\"\"\nEve,8";
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let (_, rows) = rows(text.as_bytes()).unwrap();
            let found: Vec<(u64, &str)> = rows
                .iter()
                .map(|row| (row.line, row.fault.unwrap_or_default()))
                .collect();
            let expected = [
                (2, "There is no id in this row."),
                (5, "The id is no UUID."),
                (6, "There is no id in this row."),
                (8, "The id is no UUID."),
            ];
            assert_eq!(found, expected, "{text:?}");
        }
        let (_, rows) = rows(b"\n\nd1\nd2").unwrap();
        let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
        assert_eq!(lines, [3, 4]);
    }
}
