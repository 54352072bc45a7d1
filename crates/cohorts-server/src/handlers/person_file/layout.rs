//! What the columns of a file are. It is decided once, from the beginning of the file.
//!
//! The header shows the delimiter, and which column identifies the persons. A header is never a person.

use csv::{Reader, ReaderBuilder, StringRecord};
use uuid::Uuid;

use super::text::Beginning;
use super::{IdKind, invalid};
use crate::error::Error;

/// The delimiters, in the order in which they are preferred.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// The rows among which the header is.
const FIRST_ROWS: usize = 12;
/// Columns that a report or an error lists, and characters of each name.
const LISTED_COLUMNS: usize = 100;
const LISTED_CHARS: usize = 100;

/// The columns of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub delimiter: u8,
    /// The kind of id in the column that identifies the persons.
    pub kind: IdKind,
    /// The index of that column.
    pub id_column: usize,
    /// The first columns of the file. A file without a header has one without a name.
    pub columns: Vec<Column>,
    /// The rows before the first person: a title, and the header.
    pub skipped: usize,
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name in the header, perhaps shortened.
    pub name: String,
    /// The kind of its ids if the column identifies the persons; otherwise the reader ignores the column.
    pub kind: Option<IdKind>,
}

/// The meaning of a name in the header, by precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    PersonId,
    /// The UUID of a person in an export.
    ExportedId,
    DistinctId,
    FirstDistinctId,
    UserId,
    /// A UUID of a person, or an id of the sender.
    Id,
    Email,
}

impl Role {
    /// The role of a column, in any letter case and with any punctuation in the name.
    fn of(name: &str) -> Option<Self> {
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        Some(match letters.to_ascii_lowercase().as_str() {
            "personid" => Self::PersonId,
            "distinctid" => Self::DistinctId,
            "distinctids0" | "persondistinctids0" => Self::FirstDistinctId,
            "userid" => Self::UserId,
            "uuid" | "id" => Self::Id,
            "email" | "emailaddress" => Self::Email,
            _ => return None,
        })
    }

    fn kind(self) -> IdKind {
        match self {
            Self::PersonId | Self::ExportedId | Self::Id => IdKind::Person,
            Self::DistinctId | Self::FirstDistinctId | Self::UserId => IdKind::DistinctId,
            Self::Email => IdKind::Email,
        }
    }
}

impl Layout {
    /// Decides from the first rows of a file.
    ///
    /// # Errors
    ///
    /// Fails if the file has no rows, or a header without a column of ids.
    pub fn of(start: &Beginning) -> Result<Self, Error> {
        let declared = declared_delimiter(&start.text);
        let delimiters = match &declared {
            Some(delimiter) => std::slice::from_ref(delimiter),
            None => &DELIMITERS,
        };
        let skipped = usize::from(declared.is_some());
        let mut tables: Vec<Table> = delimiters
            .iter()
            .map(|delimiter| Table::read(start, *delimiter, skipped))
            .collect();
        if tables.iter().all(|table| table.rows.is_empty()) {
            return Err(invalid(
                "CSV file is empty. Please upload a CSV file with at least one row.",
            ));
        }
        // Of the tables with a header, the one with most columns; the first of them if there are several.
        tables.sort_by_key(|table| std::cmp::Reverse(table.header_cells()));
        match tables.iter().find(|table| table.header_cells() > 0) {
            Some(table) => table.layout(),
            None => without_header(tables),
        }
    }

    /// A reader of rows with this delimiter.
    pub fn reader<R: std::io::Read>(&self, text: R) -> Reader<R> {
        rows(text, self.delimiter)
    }

    fn new(
        delimiter: u8,
        kind: IdKind,
        id_column: usize,
        names: &StringRecord,
        skipped: usize,
    ) -> Self {
        let column = |(index, name): (usize, &str)| Column {
            name: name.trim().chars().take(LISTED_CHARS).collect(),
            kind: (index == id_column).then_some(kind),
        };
        Self {
            delimiter,
            kind,
            id_column,
            columns: names
                .iter()
                .enumerate()
                .take(LISTED_COLUMNS)
                .map(column)
                .collect(),
            skipped,
        }
    }
}

/// The delimiter of a first line such as `sep=;`.
fn declared_delimiter(text: &[u8]) -> Option<u8> {
    let line = text
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .find(|line| !line.is_empty())?;
    let line = line
        .strip_prefix(b"\"")
        .map_or(line, |line| line.strip_suffix(b"\"").unwrap_or(line));
    let (name, delimiter) = line.split_at_checked(4)?;
    match delimiter {
        [delimiter] if name.eq_ignore_ascii_case(b"sep=") && DELIMITERS.contains(delimiter) => {
            Some(*delimiter)
        }
        _ => None,
    }
}

fn rows<R: std::io::Read>(text: R, delimiter: u8) -> Reader<R> {
    let mut builder = ReaderBuilder::new();
    builder
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter);
    builder.from_reader(text)
}

/// The first rows of a file, divided by one delimiter.
struct Table {
    delimiter: u8,
    /// The rows before these.
    skipped: usize,
    rows: Vec<StringRecord>,
    /// The index of the header.
    header: Option<usize>,
}

impl Table {
    fn read(start: &Beginning, delimiter: u8, skipped: usize) -> Self {
        let reader = rows(start.text.as_slice(), delimiter);
        let mut rows: Vec<StringRecord> = reader
            .into_records()
            .map_while(Result::ok)
            .take(skipped + FIRST_ROWS)
            .collect();
        if start.is_cut && rows.len() < skipped + FIRST_ROWS {
            // The last row is not complete.
            rows.pop();
        }
        rows.drain(..skipped.min(rows.len()));
        let is_blank = |row: &StringRecord| filled(row) == 0;
        let skipped = if rows.iter().all(is_blank) {
            rows.clear();
            skipped
        } else {
            skipped
        };
        let header = header(&rows);
        Self {
            delimiter,
            skipped,
            rows,
            header,
        }
    }

    /// The number of cells in the header; 0 without a header.
    fn header_cells(&self) -> usize {
        self.header.map_or(0, |index| self.rows[index].len())
    }

    fn layout(&self) -> Result<Layout, Error> {
        let index = self.header.unwrap_or_default();
        let names = &self.rows[index];
        let roles = names.iter().map(Role::of).collect::<Vec<_>>();
        let is_export = roles.contains(&Some(Role::FirstDistinctId));
        let role = |(column, role): (usize, &Option<Role>)| match role {
            Some(Role::Id) if !self.has_uuids(index, column) => None,
            Some(Role::Id) if is_export => Some((Role::ExportedId, column)),
            role => Some(((*role)?, column)),
        };
        let best = roles.iter().enumerate().filter_map(role).min();
        let (kind, column) = match best {
            Some((role, column)) => (role.kind(), column),
            // A file with ids only, which are those of the sender.
            None if filled(names) == 1 => {
                let id = roles.iter().position(Option::is_some);
                (IdKind::DistinctId, id.unwrap_or_default())
            }
            None => {
                return Err(invalid(
                    "CSV file must contain at least one column with a supported ID header: 'person_id', \
                     'distinct_id' or 'email'. The values of the column 'id' are not the UUIDs of persons; name \
                     the column 'distinct_id' if they are distinct ids.",
                ));
            }
        };
        let skipped = self.skipped + index + 1;
        Ok(Layout::new(self.delimiter, kind, column, names, skipped))
    }

    /// Whether the first value under the header is a UUID.
    fn has_uuids(&self, header: usize, column: usize) -> bool {
        let mut values = self.rows[header + 1..]
            .iter()
            .filter_map(|row| row.get(column));
        let first = values.find(|value| !value.trim().is_empty());
        first.is_some_and(|value| Uuid::parse_str(value.trim()).is_ok())
    }
}

/// The row that names a column of ids. Only blank rows and a title may precede it.
fn header(rows: &[StringRecord]) -> Option<usize> {
    for (index, row) in rows.iter().enumerate() {
        let is_named = row.iter().any(|cell| Role::of(cell).is_some());
        if is_named && (index == 0 || filled(row) > 1 || filled_before(rows, index) == 0) {
            return Some(index);
        }
        if filled(row) > 1 {
            return None;
        }
    }
    None
}

fn filled_before(rows: &[StringRecord], index: usize) -> usize {
    rows[..index].iter().map(filled).sum()
}

/// The cells with content.
fn filled(row: &StringRecord) -> usize {
    row.iter().filter(|cell| !cell.trim().is_empty()).count()
}

/// A file without a header has one column of distinct ids. Several columns need a header.
fn without_header(tables: Vec<Table>) -> Result<Layout, Error> {
    let first = |table: &Table| table.rows.iter().find(|row| filled(row) > 0).cloned();
    // Distinct ids may contain the fourth delimiter, such as `auth0|7`.
    let divided = tables
        .iter()
        .filter(|table| table.delimiter != b'|')
        .filter_map(first);
    if let Some(names) = divided.filter(|row| filled(row) > 1).max_by_key(filled) {
        let names: Vec<String> = names
            .iter()
            .take(LISTED_COLUMNS)
            .map(|cell| cell.trim().chars().take(LISTED_CHARS).collect())
            .collect();
        return Err(invalid(format!(
            "CSV file must contain at least one column with a supported ID header: 'person_id', 'distinct_id' or \
             'email'. Found columns: {}",
            names.join(", ")
        )));
    }
    let declared = tables.first().filter(|table| table.skipped > 0);
    let (delimiter, skipped) = declared.map_or((b',', 0), |table| (table.delimiter, table.skipped));
    let names = StringRecord::from(vec![""]);
    Ok(Layout::new(
        delimiter,
        IdKind::DistinctId,
        0,
        &names,
        skipped,
    ))
}
