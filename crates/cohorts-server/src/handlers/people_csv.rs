//! An uploaded CSV file of persons: the column that identifies them, and its kind of id.
//!
//! The rules and the error messages are those of PostHog's cohort upload.

use std::fs::File;
use std::io::{self, Read, Seek};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use uuid::Uuid;

use super::formula;
use crate::error::Error;
use crate::ingest::LONGEST_NAME;

/// The longest id, in bytes.
const LONGEST_ID: usize = 800;
/// The longest cell, in characters. PostHog has the limit of Python's CSV reader.
const LONGEST_CELL: usize = 131_072;
/// The longest row, in bytes, approximately.
const LONGEST_ROW: usize = 1 << 20;
/// Characters of a malformed id that a report shows.
const SHOWN_CHARS: usize = 200;
/// Columns that an error message lists, and characters of each name.
const LISTED_COLUMNS: usize = 30;

/// The kind of id in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// The UUID of a person.
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

    /// The kind that a header names, in any case and with any punctuation.
    fn of_header(header: &str) -> Option<Self> {
        let letters: String = header.chars().filter(char::is_ascii_alphanumeric).collect();
        match letters.to_ascii_lowercase().as_str() {
            "personid" => Some(Self::Person),
            "distinctid" => Some(Self::DistinctId),
            "email" => Some(Self::Email),
            _ => None,
        }
    }

    /// Why an id of this kind is malformed.
    fn fault(self, id: &str) -> Option<&'static str> {
        let too_long = id.len() > LONGEST_ID
            || (self == Self::DistinctId && id.chars().count() > LONGEST_NAME);
        if id.is_empty() {
            Some("The row has no id.")
        } else if too_long {
            Some("The id is too long.")
        } else if id.contains('\0') {
            Some("The id contains the character NUL.")
        } else if self == Self::Person && Uuid::parse_str(id).is_err() {
            Some("The id is not a UUID.")
        } else {
            None
        }
    }
}

/// The rows of a file in order, without blank rows.
#[derive(Debug)]
pub struct PersonsCsv {
    pub kind: IdKind,
    column: usize,
    /// The first row, if it is not a header.
    first: Option<CsvRow>,
    reader: Reader<RowLimit>,
    line_end: &'static [u8],
}

/// One row: its first line, and its id.
#[derive(Debug, PartialEq)]
pub struct CsvRow {
    pub line: u64,
    pub id: String,
    /// Why the id is malformed.
    pub fault: Option<&'static str>,
}

impl PersonsCsv {
    /// Reads up to the first row, and decides which column identifies the persons.
    pub fn open(mut file: File) -> Result<Self, Error> {
        let line_end = line_end(&mut file).map_err(anyhow::Error::from)?;
        let file = RowLimit {
            file: file.chain(line_end),
            left: LONGEST_ROW,
        };
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(file);
        let mut row = StringRecord::new();
        if !reader.read_record(&mut row).map_err(unreadable)? {
            return Err(invalid(
                "CSV file is empty. Please upload a CSV file with at least one row.",
            ));
        }
        check_cells(&row)?;
        let filled = row.iter().filter(|cell| !cell.trim().is_empty()).count();
        let id_column = match filled {
            0 | 1 => single_column(row.get(0).unwrap_or_default()),
            _ => several_columns(&row)?,
        };
        let mut csv = Self {
            kind: id_column.kind,
            column: id_column.index,
            first: None,
            reader,
            line_end,
        };
        csv.first = (!id_column.has_header && filled > 0).then(|| csv.read(&row));
        Ok(csv)
    }

    /// Converts the row that the reader has just returned.
    fn read(&self, row: &StringRecord) -> CsvRow {
        let id = formula::unescape(row.get(self.column).unwrap_or_default().trim());
        let fault = self.kind.fault(id);
        let newlines = row.as_slice().bytes().filter(|byte| *byte == b'\n').count() as u64;
        // The reader returns a row that ends in CRLF before it has passed the LF.
        let passed = newlines + u64::from(self.line_end == b"\n");
        CsvRow {
            // A carriage return alone ends a row, and is no line for the reader.
            line: self.reader.position().line().saturating_sub(passed).max(1),
            id: match fault {
                Some(_) => id.chars().take(SHOWN_CHARS).collect(),
                None => id.to_owned(),
            },
            fault,
        }
    }
}

/// The line end of the first line of a file.
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

impl CsvRow {
    /// Whether the row has an id, even a malformed one.
    pub fn has_id(&self) -> bool {
        !self.id.is_empty()
    }
}

/// A file that fails to read when a row exceeds the limit.
#[derive(Debug)]
struct RowLimit {
    /// The file and a line end, for a last line without one.
    file: io::Chain<File, &'static [u8]>,
    /// The bytes that are left for the row.
    left: usize,
}

impl Read for RowLimit {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

/// The column that identifies the persons.
struct IdColumn {
    kind: IdKind,
    index: usize,
    has_header: bool,
}

impl IdColumn {
    fn under_header(kind: IdKind, index: usize) -> Self {
        Self {
            kind,
            index,
            has_header: true,
        }
    }
}

/// A file with one column: the first row is a header only if it names a kind of id.
fn single_column(cell: &str) -> IdColumn {
    match IdKind::of_header(cell) {
        Some(kind @ (IdKind::Person | IdKind::Email)) => IdColumn::under_header(kind, 0),
        _ => IdColumn {
            kind: IdKind::DistinctId,
            index: 0,
            has_header: false,
        },
    }
}

/// The columns that identify a file as an export of persons; the last contains their UUIDs.
const EXPORT: [&str; 5] = ["created_at", "last_seen_at", "name", "distinct_ids.0", "id"];

/// A file with several columns: the first row is the header. In an export the UUIDs identify the persons.
fn several_columns(header: &StringRecord) -> Result<IdColumn, Error> {
    let export = EXPORT.map(|name| header.iter().position(|cell| cell.trim() == name));
    if let [Some(_), Some(_), Some(_), Some(_), Some(id)] = export {
        return Ok(IdColumn::under_header(IdKind::Person, id));
    }
    for kind in [IdKind::Person, IdKind::DistinctId, IdKind::Email] {
        let mut kinds = header.iter().map(IdKind::of_header);
        if let Some(index) = kinds.position(|header| header == Some(kind)) {
            return Ok(IdColumn::under_header(kind, index));
        }
    }
    let columns: Vec<String> = header
        .iter()
        .take(LISTED_COLUMNS)
        .map(|cell| cell.trim().chars().take(LISTED_COLUMNS).collect())
        .collect();
    Err(invalid(format!(
        "CSV file must contain at least one column with a supported ID header: 'person_id', 'distinct_id' or 'email'. \
         Found columns: {}",
        columns.join(", ")
    )))
}

impl Iterator for PersonsCsv {
    type Item = Result<CsvRow, Error>;

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
                Ok(true) => return Some(check_cells(&row).map(|()| self.read(&row))),
                Err(cause) => return Some(Err(unreadable(cause))),
            }
        }
    }
}

fn check_cells(row: &StringRecord) -> Result<(), Error> {
    let long = |cell: &str| cell.len() > LONGEST_CELL && cell.chars().count() > LONGEST_CELL;
    if row.iter().any(long) {
        return Err(invalid(format!(
            "CSV file format is invalid: a field is longer than {LONGEST_CELL} characters."
        )));
    }
    Ok(())
}

/// The error for a file without any id.
pub fn no_ids() -> Error {
    invalid("CSV file contains no valid person IDs, distinct IDs, or email addresses.")
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::field("csv", detail)
}

fn unreadable(cause: csv::Error) -> Error {
    match cause.kind() {
        ErrorKind::Utf8 { .. } => invalid(
            "CSV file encoding is not supported. Please save the file as UTF-8 and try again.",
        ),
        ErrorKind::Io(cause) if cause.kind() == io::ErrorKind::FileTooLarge => invalid(format!(
            "CSV file format is invalid: a row is longer than {LONGEST_ROW} bytes; a quotation mark may be open."
        )),
        ErrorKind::Io(_) => anyhow::Error::new(cause)
            .context("cannot read an upload")
            .into(),
        _ => invalid(format!("CSV file format is invalid: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn rows(content: &[u8]) -> Result<(IdKind, Vec<CsvRow>), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        let csv = PersonsCsv::open(file).map_err(|error| error.to_string())?;
        let kind = csv.kind;
        let rows = csv.collect::<Result<Vec<_>, _>>();
        Ok((kind, rows.map_err(|error| error.to_string())?))
    }

    fn ids(content: &str) -> (IdKind, Vec<String>) {
        let (kind, rows) = rows(content.as_bytes()).unwrap();
        let ids = rows.into_iter().filter(CsvRow::has_id).map(|row| row.id);
        (kind, ids.collect())
    }

    #[test]
    fn without_a_known_header_one_column_is_distinct_ids() {
        let expected = ["User ID", "e@x.io", "d1"].map(str::to_owned).to_vec();
        assert_eq!(
            ids("\n\nUser ID\ne@x.io\n\nd1\n"),
            (IdKind::DistinctId, expected)
        );
        for header in ["person_id", "person-id", "Person .id"] {
            let (kind, ids) = ids(&format!("{header}\n a \n"));
            assert_eq!(
                (kind, ids.as_slice()),
                (IdKind::Person, &["a".to_owned()][..]),
                "{header}"
            );
        }
        assert_eq!(ids("E-Mail\r\na@x.io\r\n").0, IdKind::Email);
        assert_eq!(ids("0\n\"a,1\"\n").1, ["0", "a,1"]);
        assert_eq!(ids("\u{feff}person_id\na\n").0, IdKind::Person);
    }

    #[test]
    fn the_apostrophe_of_an_export_is_removed() {
        let found = ids("distinct_id,name\n'=a,x\n''-b,x\n'c,x\n-5,x\n'\td,x\n").1;
        assert_eq!(found, ["=a", "'-b", "'c", "-5", "\td"]);
    }

    #[test]
    fn person_ids_are_preferred_to_distinct_ids_and_addresses() {
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
    fn an_invalid_file_is_an_error_with_a_reason() {
        let error = |content: &[u8]| rows(content).unwrap_err();
        assert!(error(b"").contains("empty"));
        let columns = error(b"name,age\nn,1\n");
        assert!(
            columns.contains("at least one column with a supported ID header"),
            "{columns}"
        );
        assert!(columns.ends_with("Found columns: name, age"), "{columns}");
        assert!(error(b"d1\nJos\xe9\n").contains("encoding is not supported"));
        let long = format!("d1\n{}\n", "a".repeat(LONGEST_CELL + 1));
        assert!(error(long.as_bytes()).contains("file format is invalid"));
        let endless = format!("d1\n\"{}", "a\n".repeat(LONGEST_ROW));
        assert!(error(endless.as_bytes()).contains("a row is longer than"));
    }

    #[test]
    fn a_malformed_row_has_its_line_and_its_fault() {
        let text = "name,person_id\nAna,\n,,\n\nBob,7\n\"C\nD\",\"\"\nEve,8";
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let (_, rows) = rows(text.as_bytes()).unwrap();
            let faults: Vec<(u64, &str)> = rows
                .iter()
                .map(|row| (row.line, row.fault.unwrap_or_default()))
                .collect();
            let expected = [
                (2, "The row has no id."),
                (5, "The id is not a UUID."),
                (6, "The row has no id."),
                (8, "The id is not a UUID."),
            ];
            assert_eq!(faults, expected, "{text:?}");
        }
        let (_, first) = rows(b"d1\r\r\r").unwrap();
        assert_eq!(first[0].line, 1);
        let (_, rows) = rows(b"\n\nd1\nd2").unwrap();
        let lines: Vec<u64> = rows.iter().map(|row| row.line).collect();
        assert_eq!(lines, [3, 4]);
    }
}
