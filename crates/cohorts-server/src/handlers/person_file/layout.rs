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
/// The rows with content among which the header is.
const FIRST_ROWS: usize = 12;
/// The rows of a title that may precede a header of one cell. More of them are ids.
const TITLE_ROWS: usize = 3;
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

/// Whether an id is the name of a column in the header, such as the header of another file that follows this one.
pub fn is_column_name(id: &str, kind: IdKind) -> bool {
    match Role::of(id) {
        Some(Role::Id) | None => false,
        Some(Role::Email) => kind == IdKind::Email,
        Some(_) => true,
    }
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

    /// Whether the first value of a column can have this role.
    fn fits(self, value: Option<&str>) -> bool {
        match self {
            Self::PersonId => value.is_none_or(is_uuid),
            Self::ExportedId | Self::Id => value.is_some_and(is_uuid),
            Self::Email => value.is_some_and(|value| value.contains('@')),
            Self::DistinctId | Self::FirstDistinctId | Self::UserId => {
                value.is_none_or(|value| Self::of(value).is_none())
            }
        }
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
        let declared = Declared::of(&start.text)?;
        let mut delimiters = DELIMITERS;
        delimiters.sort_by_key(|delimiter| Some(*delimiter) != declared.delimiter);
        let tables = delimiters.map(|delimiter| Table::read(start, delimiter, declared.rows));
        if tables.iter().all(|table| table.rows.is_empty()) {
            return without_rows(start);
        }
        if declared.delimiter.is_some() && tables[0].header.is_some() {
            return tables[0].layout();
        }
        // Of the tables with a header, the one with most columns; the first of them if there are several.
        let with_header = tables.iter().rev().filter(|table| table.header.is_some());
        match with_header.max_by_key(|table| table.header_cells()) {
            Some(table) => table.layout(),
            None => without_header(&tables, &declared),
        }
    }

    /// A reader of rows with this delimiter.
    pub fn reader<R: std::io::Read>(&self, text: R) -> Reader<R> {
        rows(text, self.delimiter)
    }

    /// One column of distinct ids without a name.
    fn of_ids(delimiter: u8, skipped: usize) -> Self {
        let names = StringRecord::from(vec![""]);
        Self::new(delimiter, IdKind::DistinctId, 0, &names, skipped)
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

/// Whether the beginning has enough rows to decide from.
pub fn is_enough(start: &Beginning) -> bool {
    let has_rows = |delimiter| {
        let table = Table::read(start, delimiter, 0);
        table.rows.iter().filter(|row| filled(row) > 0).count() == FIRST_ROWS
    };
    DELIMITERS.into_iter().all(has_rows)
}

/// What a first line such as `sep=;` declares.
struct Declared {
    delimiter: Option<u8>,
    /// The rows of the line: 1, or 0 without it.
    rows: usize,
}

impl Declared {
    /// Fails if the line declares another delimiter.
    fn of(text: &str) -> Result<Self, Error> {
        let line = text.split(['\n', '\r']).find(|line| !line.is_empty());
        let line = line.unwrap_or_default().trim_start_matches(['"', ' ']);
        let Some((_, value)) = line
            .split_at_checked("sep=".len())
            .filter(|(name, _)| name.eq_ignore_ascii_case("sep="))
        else {
            return Ok(Self {
                delimiter: None,
                rows: 0,
            });
        };
        let value = value.trim_matches('"');
        let is_filler = |byte: &u8| DELIMITERS.contains(byte) || matches!(byte, b' ' | b'"');
        let delimiter = match value.as_bytes() {
            [] => None,
            b"\\t" => Some(b'\t'),
            // A spreadsheet fills the line up to the number of columns.
            [first, rest @ ..] if DELIMITERS.contains(first) && rest.iter().all(is_filler) => {
                Some(*first)
            }
            _ => return Err(unknown_delimiter(value)),
        };
        Ok(Self { delimiter, rows: 1 })
    }
}

fn unknown_delimiter(value: &str) -> Error {
    let value: String = value.chars().take(LISTED_CHARS).collect();
    invalid(format!(
        "CSV file format is invalid: the first line declares the delimiter {value:?}. Use comma, semicolon, tab or `|`, \
         or remove that line."
    ))
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
        let records = rows(start.text.as_bytes(), delimiter).into_records();
        let mut rows = Vec::new();
        let mut with_content = 0;
        for row in records.skip(skipped).map_while(Result::ok) {
            with_content += usize::from(filled(&row) > 0);
            rows.push(row);
            if with_content == FIRST_ROWS {
                break;
            }
        }
        if start.is_cut && with_content < FIRST_ROWS {
            // The last row is not complete.
            rows.pop();
        }
        if rows.iter().all(|row| filled(row) == 0) {
            rows.clear();
        }
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
            None if self.rows[index + 1..].iter().all(|row| filled(row) == 0) => {
                let id = roles.iter().position(Option::is_some);
                (IdKind::Person, id.unwrap_or_default())
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

    fn has_uuids(&self, header: usize, column: usize) -> bool {
        first_value(&self.rows[header + 1..], column).is_some_and(is_uuid)
    }
}

fn is_uuid(text: &str) -> bool {
    Uuid::parse_str(text).is_ok()
}

/// The first value of a column that is not blank.
fn first_value(rows: &[StringRecord], column: usize) -> Option<&str> {
    let values = rows.iter().filter_map(|row| row.get(column));
    values.map(str::trim).find(|value| !value.is_empty())
}

/// The row that names a column of ids.
fn header(rows: &[StringRecord]) -> Option<usize> {
    (0..rows.len()).find(|index| is_header(rows, *index))
}

/// Only blank rows and a title may precede a header. A row of several cells before it may also be a header without ids,
/// so the row must then be a header by its values, too.
fn is_header(rows: &[StringRecord], index: usize) -> bool {
    let row = &rows[index];
    let roles = row.iter().map(Role::of).enumerate();
    let mut roles = roles.filter_map(|(column, role)| Some((column, role?)));
    let before: Vec<usize> = rows[..index]
        .iter()
        .map(filled)
        .filter(|cells| *cells > 0)
        .collect();
    if before.iter().any(|cells| *cells > 1) {
        roles.any(|(column, role)| role.fits(first_value(&rows[index + 1..], column)))
    } else {
        roles.next().is_some() && (filled(row) > 1 || before.len() <= TITLE_ROWS)
    }
}

/// The cells with content.
fn filled(row: &StringRecord) -> usize {
    row.iter().filter(|cell| !cell.trim().is_empty()).count()
}

/// A file without rows is empty, or its first row is so long that the reader refuses it.
fn without_rows(start: &Beginning) -> Result<Layout, Error> {
    if start.is_cut && !start.text.trim().is_empty() {
        return Ok(Layout::of_ids(b',', 0));
    }
    Err(invalid(
        "CSV file is empty. Please upload a CSV file with at least one row.",
    ))
}

/// A file without a header has one column of distinct ids. Several columns need a header.
fn without_header(tables: &[Table], declared: &Declared) -> Result<Layout, Error> {
    // Distinct ids may contain the fourth delimiter, such as `auth0|7`.
    let divides = |table: &&Table| table.delimiter != b'|' || declared.delimiter == Some(b'|');
    // A title may precede the names.
    let names = |table: &Table| table.rows.iter().find(|row| filled(row) > 1).cloned();
    let divided = tables.iter().filter(divides).filter_map(names);
    if let Some(names) = divided.max_by_key(filled) {
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
    Ok(Layout::of_ids(
        declared.delimiter.unwrap_or(b','),
        declared.rows,
    ))
}
