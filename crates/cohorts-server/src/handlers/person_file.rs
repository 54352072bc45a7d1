//! A file of persons, such as an uploaded CSV file: the column that identifies them, and their ids in order.
//!
//! Each row with content is returned once, also a row with a malformed id. The parts are `text` (bytes to checked text)
//! and `layout` (what each column is). The error messages begin as those of PostHog's cohort upload.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Seek};

use cohorts_engine::{is_too_long, stored_name};
use csv::{ErrorKind, Reader, StringRecord};
use uuid::Uuid;

use super::formula;
use crate::error::Error;

mod layout;
mod text;
mod utf16;

pub use layout::{Column, Layout};
use text::{Fault, PersonText};

/// The longest id, in bytes.
const LONGEST_ID: usize = 800;
/// The longest cell, in characters. PostHog has the limit of Python's CSV reader.
const LONGEST_CELL: usize = 131_072;
/// Characters of a malformed id that a report shows.
const SHOWN_CHARS: usize = 200;
/// The error for a file in another encoding.
const UNSUPPORTED: &str =
    "CSV file encoding is not supported. Please save the file as UTF-8 and try again.";

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

    /// Why an id of this kind is malformed.
    fn fault(self, id: &str) -> Option<&'static str> {
        if id.is_empty() {
            Some("The row has no id.")
        } else if id.len() > LONGEST_ID {
            Some("The id is too long.")
        } else if layout::is_column_name(id, self) {
            Some("The row is a header.")
        } else if self == Self::Person && Uuid::parse_str(id).is_err() {
            Some("The id is not a UUID.")
        } else {
            None
        }
    }
}

/// The rows of a file in order, without the header and blank rows.
#[derive(Debug)]
pub struct PersonFile {
    pub layout: Layout,
    reader: Reader<PersonText>,
    line_end: &'static [u8],
}

/// One row: its first line, and its id.
#[derive(Debug, PartialEq)]
pub struct FileRow {
    pub line: u64,
    pub id: String,
    /// Why the id is malformed.
    pub fault: Option<&'static str>,
    /// Whether the id is a distinct id that was cut because it is too long.
    pub is_truncated: bool,
}

impl FileRow {
    /// Whether the row has an id, even a malformed one.
    pub fn has_id(&self) -> bool {
        !self.id.is_empty()
    }
}

impl PersonFile {
    /// Reads the beginning of a file, and decides what its columns are.
    ///
    /// # Errors
    ///
    /// Fails if the file is empty, is no delimited text, or has no column of ids.
    pub fn open(mut file: File) -> Result<Self, Error> {
        let start = text::beginning(&mut file, layout::is_enough)?;
        let layout = Layout::of(&start)?;
        let line_end = start.line_end();
        file.rewind().map_err(anyhow::Error::from)?;
        let text = PersonText::new(file, layout.delimiter, line_end);
        let mut reader = layout.reader(text);
        let mut row = StringRecord::new();
        for _ in 0..layout.skipped {
            reader.read_record(&mut row).map_err(unreadable)?;
            check_cells(&row)?;
        }
        Ok(Self {
            layout,
            reader,
            line_end,
        })
    }

    /// Converts the row that the reader has just returned.
    fn read(&self, row: &StringRecord) -> FileRow {
        let kind = self.layout.kind;
        let id = row.get(self.layout.id_column).unwrap_or_default().trim();
        let id = formula::unescape(id);
        let is_truncated = kind == IdKind::DistinctId && is_too_long(id);
        let id = match kind {
            IdKind::DistinctId => stored_name(id),
            IdKind::Person | IdKind::Email => Cow::Borrowed(id),
        };
        let fault = kind.fault(&id);
        let newlines = row.as_slice().bytes().filter(|byte| *byte == b'\n').count() as u64;
        // The reader returns a row that ends in CRLF before it has passed the LF.
        let passed = newlines + u64::from(self.line_end == b"\n");
        FileRow {
            // A carriage return alone ends a row, and is no line for the reader.
            line: self.reader.position().line().saturating_sub(passed).max(1),
            id: match fault {
                Some(_) => id.chars().take(SHOWN_CHARS).collect(),
                None => id.into_owned(),
            },
            fault,
            is_truncated,
        }
    }
}

impl Iterator for PersonFile {
    type Item = Result<FileRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut row = StringRecord::new();
        loop {
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
    match cause.into_kind() {
        ErrorKind::Utf8 { .. } => invalid(UNSUPPORTED),
        ErrorKind::Io(cause) => unreadable_text(cause),
        other => invalid(format!("CSV file format is invalid: {other:?}")),
    }
}

/// A fault of the text, or a failure of the disk.
fn unreadable_text(cause: io::Error) -> Error {
    let fault = cause.get_ref().and_then(|inner| inner.downcast_ref());
    match fault {
        Some(Fault(sentence)) => invalid(sentence.clone()),
        None => anyhow::Error::new(cause)
            .context("cannot read an upload")
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn open(content: &[u8]) -> Result<PersonFile, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        PersonFile::open(file).map_err(|error| error.to_string())
    }

    fn rows(content: &[u8]) -> Result<(IdKind, Vec<FileRow>), String> {
        let file = open(content)?;
        let kind = file.layout.kind;
        let rows = file.collect::<Result<Vec<_>, _>>();
        Ok((kind, rows.map_err(|error| error.to_string())?))
    }

    #[track_caller]
    fn ids(content: impl AsRef<[u8]>) -> (IdKind, Vec<String>) {
        let (kind, rows) = rows(content.as_ref()).unwrap();
        let ids = rows.into_iter().filter(FileRow::has_id).map(|row| row.id);
        (kind, ids.collect())
    }

    #[track_caller]
    fn check(content: &str, kind: IdKind, expected: &[&str]) {
        let expected = expected.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(ids(content), (kind, expected), "{content:?}");
    }

    #[track_caller]
    fn refused(content: &[u8], words: &[&str]) {
        let sentence = rows(content).expect_err("an error");
        for word in words {
            assert!(sentence.contains(word), "{sentence}");
        }
    }

    const UUID: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4e04";

    #[test]
    fn a_header_in_any_spelling_is_no_person() {
        use IdKind::{DistinctId, Email, Person};
        for header in [
            "distinct_id",
            "Distinct ID",
            "$distinct_id",
            "distinct_ids.0",
            "person.distinct_ids.0",
            "USER_ID",
            "distinct-id",
        ] {
            check(&format!("{header}\nd1\n"), DistinctId, &["d1"]);
        }
        for header in ["person_id", "Person .id", "uuid", "id", "ID"] {
            check(&format!("{header}\n{UUID}\n"), Person, &[UUID]);
        }
        for header in ["email", "Email Address", "E-Mail"] {
            check(&format!("{header}\r\n ANA@x.io \r\n"), Email, &["ANA@x.io"]);
        }
        // An id that is no UUID belongs to the sender.
        check("id\nd1\n", DistinctId, &["d1"]);
        check(
            "\n\nd0\ne@x.io\n\nd1\n",
            DistinctId,
            &["d0", "e@x.io", "d1"],
        );
        check("auth0|1\nauth0|2\n", DistinctId, &["auth0|1", "auth0|2"]);
        check(
            "distinct_id\nauth0|1\na;b\n",
            DistinctId,
            &["auth0|1", "a;b"],
        );
        check("0\n\"a,1\"\n", DistinctId, &["0", "a,1"]);
    }

    #[test]
    fn the_apostrophe_of_an_export_is_removed() {
        let ids = ids("distinct_id,name\n'=a,x\n''-b,x\n'c,x\n-5,x\n'\td,x\n").1;
        assert_eq!(ids, ["=a", "'-b", "'c", "-5", "d"]);
    }

    #[test]
    fn the_most_specific_column_identifies_the_persons() {
        use IdKind::{DistinctId, Email, Person};
        check(
            "name,Distinct-ID,email\nn,d1,e\nn\nn, ,e\n,d2",
            DistinctId,
            &["d1", "d2"],
        );
        check("distinct_id,person_id\nd,p,more\n", Person, &["p"]);
        check("name, email \nn,e\n", Email, &["e"]);
        check(&format!("email,id,name\ne,{UUID},n\n"), Person, &[UUID]);
        check("email,id,user_id\ne,7,u\n", DistinctId, &["u"]);
        check("email,id\ne,7\n", Email, &["e"]);
        check(",email\n0,a@x.io\n1,b@x.io\n", Email, &["a@x.io", "b@x.io"]);
        check("\"\",\"distinct_id\"\n\"1\",\"d1\"\n", DistinctId, &["d1"]);
        check("index,distinct_id\n1,d1\n", DistinctId, &["d1"]);
        let export = format!("distinct_ids.0,email,id,name\nd2,b@x.io,{UUID},n\n");
        check(&export, Person, &[UUID]);
        check("distinct_ids.0,email\nd2,b@x.io\n", DistinctId, &["d2"]);
        check(
            "email,person.distinct_ids.0\nb@x.io,d2\n",
            DistinctId,
            &["d2"],
        );
    }

    #[test]
    fn the_header_shows_the_delimiter() {
        use IdKind::{DistinctId, Email};
        check("email;first_name\r\nana@x.io;Ana\r\n", Email, &["ana@x.io"]);
        check("distinct_id\tx\nd1\t1\n", DistinctId, &["d1"]);
        check("x|distinct_id\n1|d1\n", DistinctId, &["d1"]);
        check("sep=;\r\ndistinct_id;x\r\nd1;1\r\n", DistinctId, &["d1"]);
        check("\"sep=,\"\ndistinct_id,x\nd1,1\n", DistinctId, &["d1"]);
        check("SEP=\t\ndistinct_id\nd1\n", DistinctId, &["d1"]);
        check(
            "People export,,\n,,\nname,distinct_id,x\nn,d1,1\n",
            DistinctId,
            &["d1"],
        );
        let file = open(b"distinct_id;x,y;;index\nd1;1\n").unwrap();
        assert_eq!(file.layout.delimiter, b';');
        let columns: Vec<_> = file
            .layout
            .columns
            .iter()
            .map(|column| (&*column.name, column.kind))
            .collect();
        assert_eq!(
            columns,
            [
                ("distinct_id", Some(DistinctId)),
                ("x,y", None),
                ("", None),
                ("index", None)
            ]
        );
    }

    #[test]
    fn the_declared_delimiter_is_never_a_person() {
        use IdKind::DistinctId;
        for declaration in ["sep=;", "sep=|", "\"sep=;\"", "sep=", "sep=,,,", "sep=\\t"] {
            let text = format!("{declaration}\ndistinct_id,x\nd1,1\n");
            check(&text, DistinctId, &["d1"]);
            check(
                &format!("{declaration}\nd1\nd2\n"),
                DistinctId,
                &["d1", "d2"],
            );
        }
        for delimiter in [":", " ", "::", "a"] {
            let text = format!("sep={delimiter}\ndistinct_id{delimiter}x\nd1{delimiter}1\n");
            refused(
                text.as_bytes(),
                &["delimiter", &format!("{delimiter:?}"), "semicolon"],
            );
        }
        refused(b"sep=|\nfirst|last\nAna|B\n", &["first, last"]);
    }

    #[test]
    fn a_title_is_no_person() {
        use IdKind::{DistinctId, Email, Person};
        for text in [
            "Title\nGenerated by X,on Monday\ndistinct_id,x\nd1,1\n",
            "Title,\nGenerated by X,on Monday\n\nemail,distinct_id\na@x.io,d1\n",
            "Title\nGenerated by X,on Monday\ndistinct_id;x\nd1;1\n",
            "Newsletter list\ndistinct_id\nd1\n",
            "Newsletter list\nGenerated on Monday\n\nid\nd1\n",
        ] {
            check(text, DistinctId, &["d1"]);
        }
        check("Newsletter list\nemail\na@x.io\n", Email, &["a@x.io"]);
        check("Title, long\nname,email\nAna,a@x.io\n", Email, &["a@x.io"]);
        let text = format!("Title, long\nname,id\nAna,{UUID}\n");
        check(&text, Person, &[UUID]);
        let blank = ",,\n".repeat(40);
        check(
            &format!("{blank}distinct_id,x\nd1,1\n"),
            DistinctId,
            &["d1"],
        );
        for text in [
            "People export\nfirst_name,last_name\nAna,B\nCy,D\n",
            "People export,,\nfirst_name,last_name,\nAna,B,\n",
            "People export\nfirst_name;last_name\nAna;B\n",
            "People export\nMonday\nfirst_name\tlast_name\nAna\tB\n",
        ] {
            refused(text.as_bytes(), &["Found columns: first_name, last_name"]);
        }
        // A value is no header.
        let text = "name,contact\nAna,Email\nBob,Phone\n";
        refused(text.as_bytes(), &["Found columns: name, contact"]);
    }

    #[test]
    fn a_later_header_is_a_malformed_row() {
        let (_, rows) = rows(b"d1\nd2\nd3\nd4\nDistinct ID\nd5\n").unwrap();
        let faults: Vec<u64> = rows
            .iter()
            .filter_map(|row| row.fault.map(|_| row.line))
            .collect();
        assert_eq!((rows.len(), faults), (6, vec![5]));
    }

    #[test]
    fn long_rows_at_the_beginning_are_read() {
        let long = "a".repeat(70 << 10);
        let text = format!("email,id,x\ne@x.io,{UUID},{long}\n");
        check(&text, IdKind::Person, &[UUID]);
        let text = format!("x,email,id\n{long},e@x.io,{UUID}\n");
        check(&text, IdKind::Person, &[UUID]);
        let names: String = (0..10_000)
            .map(|name| format!(",property {name}"))
            .collect();
        let text = format!("distinct_id{names}\nd1{names}\nd2{names}");
        check(&text, IdKind::DistinctId, &["d1", "d2"]);
        let text = format!("distinct_id,x\n{}", "d1,é\n".repeat(20_000));
        assert_eq!(ids(&text).1.len(), 20_000);
        refused(",".repeat(5 << 20).as_bytes(), &["line 1", "longer than"]);
    }

    #[test]
    fn malformed_utf_16_is_refused() {
        let utf16 = |units: &[u16]| {
            let units = "\u{feff}d0\n".encode_utf16().chain(units.iter().copied());
            units.collect::<Vec<u16>>()
        };
        let high = 0xd83d_u16;
        let low = 0xde00_u16;
        for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes = |units: &[u16]| -> Vec<u8> {
                utf16(units).into_iter().flat_map(to_bytes).collect()
            };
            assert_eq!(ids(bytes(&[high, low])).1, ["d0", "😀"]);
            assert_eq!(ids(bytes(&[0xfffd])).1, ["d0", "\u{fffd}"]);
            for units in [&[high, 0x61][..], &[low], &[high], &[high, high, low]] {
                refused(&bytes(units), &["line 2", "UTF-16", "UTF-8"]);
            }
            let odd = [bytes(&[0x61]), vec![0x62]].concat();
            refused(&odd, &["line 2", "UTF-16"]);
            let late = [[0x61, 0x0a].repeat(100_000), vec![low]].concat();
            refused(&bytes(&late), &["line 100002", "UTF-16"]);
        }
    }

    #[test]
    fn encodings_with_a_mark_are_read() {
        let text = "distinct_id,name\nd1,Zoë\n";
        let utf16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
            let units = text.encode_utf16().flat_map(bytes);
            mark.iter().copied().chain(units).collect::<Vec<u8>>()
        };
        for content in [
            utf16(b"\xff\xfe", u16::to_le_bytes),
            utf16(b"\xfe\xff", u16::to_be_bytes),
            format!("\u{feff}{text}").into_bytes(),
        ] {
            assert_eq!(ids(&content).1, ["d1"]);
        }
        refused(
            &utf16(b"", u16::to_le_bytes),
            &["UTF-16", "byte order mark"],
        );
        refused(
            &utf16(b"", u16::to_be_bytes),
            &["UTF-16", "byte order mark"],
        );
        let late = [&b"d1\n".repeat(50_000)[..], b"Jos\xe9\n"].concat();
        for content in [
            &b"d1\nJos\xe9\n"[..],
            b"distinct_id,pr\xe9nom\nd1,x\n",
            b"d1\nd2\xc3",
            &late,
        ] {
            refused(content, &["encoding is not supported", "UTF-8"]);
        }
    }

    #[test]
    fn other_formats_are_named() {
        for (content, words) in [
            (
                &b"PK\x03\x04\x14\x00\x06\x00[Content_Types].xml"[..],
                [".xlsx", "CSV"],
            ),
            (b"PK\x03\x04\x14\x00\x06\x00a.csv", ["ZIP", "CSV"]),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", [".xls", "CSV"]),
            (b"%PDF-1.7", ["PDF", "CSV"]),
            (b"\x1f\x8b\x08\x00", ["gzip", "CSV"]),
            (b"\x28\xb5\x2f\xfd\x04\x00", ["zstd", "CSV"]),
            (b"\xfd7zXZ\0\0\x04", ["xz", "CSV"]),
            (b"BZh91AY&SY\x00", ["bzip2", "CSV"]),
            (b"  <!DOCTYPE html><html>", ["HTML", "CSV"]),
            (b"[\n1,\n2\n]", ["JSON", "CSV"]),
            (b"[1]", ["JSON", "CSV"]),
            (b"[ -1.5e3 ]\n[2]\n", ["JSON", "CSV"]),
            (b"[null, true]", ["JSON", "CSV"]),
            (b"\xff\xfe[\x001\x00]\x00", ["JSON", "CSV"]),
            (b"<?xml version=\"1.0\"?>", ["XML", "CSV"]),
            (b"[{\"distinct_id\": \"d1\"}]", ["JSON", "CSV"]),
            (b"{\"distinct_id\": \"d1\"}\n", ["JSON", "CSV"]),
            (b"d1\nd\x002\n", ["NUL", "line 2"]),
            (b"\x89PNG\r\n\x1a\n", ["binary", "CSV"]),
        ] {
            refused(content, &words);
        }
        check(
            "[2024] Export\ndistinct_id\nd1\n",
            IdKind::DistinctId,
            &["d1"],
        );
    }

    #[test]
    fn an_open_quotation_mark_is_named_with_its_line() {
        refused(
            b"distinct_id,name\nd1,Ana\nd2,\"Bob\nd3,Cy\nd4,Di\n",
            &["line 3"],
        );
        refused(
            b"distinct_id,name\nd1,Ana\nd2,\"Bob\nd3,\"Cy\"\n",
            &["line 3"],
        );
        refused(b"distinct_id\n\"d1", &["line 2"]);
        let endless = format!("d1\nd2\n\"{}", "a\n".repeat(1 << 20));
        refused(endless.as_bytes(), &["line 3", "longer than"]);
        check(
            "distinct_id,name\n\"d1\",\"A \"\"B\"\"\nC\"\nd2\",x\n",
            IdKind::DistinctId,
            &["d1", "d2\""],
        );
    }

    #[test]
    fn an_invalid_file_is_an_error_with_a_reason() {
        refused(b"", &["empty"]);
        refused(b"\n \n", &["empty"]);
        refused(
            b"name,age\nn,1\n",
            &[
                "at least one column with a supported ID header",
                "name, age",
            ],
        );
        refused(
            b"name;age\nn;1\n",
            &[
                "at least one column with a supported ID header",
                "name, age",
            ],
        );
        refused(b"name,id\nn,1\n", &["'id'", "UUID"]);
        check("name,id\n", IdKind::Person, &[]);
        let long = format!("d1\n{}\n", "a".repeat(LONGEST_CELL + 1));
        refused(long.as_bytes(), &["file format is invalid"]);
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
