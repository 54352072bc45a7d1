//! The text of a file: its encoding, formats that are no delimited text, and quotation marks that do not end.
//!
//! A file that passes is text without NUL, with complete quotation marks and rows of bounded length.

use std::fs::File;
use std::io::{self, Read, Seek};

use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use super::utf16::CheckedUtf16;
use super::{UNSUPPORTED, invalid, unreadable_text};
use crate::error::Error;

/// The longest row, in bytes.
const LONGEST_ROW: usize = 1 << 20;
/// The bytes from which the layout of a file is decided: first a few, then as many as some of the longest rows have.
const BEGINNINGS: [usize; 2] = [64 << 10, 4 * LONGEST_ROW];

type DecodedText<R> = DecodeReaderBytes<CheckedUtf16<R>, Vec<u8>>;

/// Why a text is refused, as the cause of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// The beginning of a file.
pub struct Beginning {
    pub text: String,
    /// Whether the file has more text.
    pub is_cut: bool,
}

impl Beginning {
    /// The end of the first line.
    pub fn line_end(&self) -> &'static [u8] {
        let line = self.text.split_once('\n').map(|(line, _)| line);
        let is_crlf = line.is_some_and(|line| line.ends_with('\r'));
        if is_crlf { b"\r\n" } else { b"\n" }
    }
}

/// Reads the beginning of a file, as far as `is_enough` needs it. Fails if its content is no delimited text.
pub fn beginning(
    file: &mut File,
    is_enough: impl Fn(&Beginning) -> bool,
) -> Result<Beginning, Error> {
    let [few, many] = BEGINNINGS;
    let mut bytes = Vec::new();
    file.take(few as u64)
        .read_to_end(&mut bytes)
        .map_err(anyhow::Error::from)?;
    if let Some(format) = format(&bytes) {
        return Err(other_format(format));
    }
    let start = decoded(file, few)?;
    if let Some(format) = markup(&start.text) {
        return Err(other_format(format));
    }
    if start.is_cut && !is_enough(&start) {
        return decoded(file, many);
    }
    Ok(start)
}

fn other_format(format: &str) -> Error {
    invalid(format!(
        "CSV file format is invalid: the file seems to be {format}. Save it as CSV (UTF-8) and upload that file."
    ))
}

/// The first `length` bytes of the text of a file.
fn decoded(file: &mut File, length: usize) -> Result<Beginning, Error> {
    file.rewind().map_err(anyhow::Error::from)?;
    let mut text = Vec::new();
    decoder(file)
        .take(length as u64)
        .read_to_end(&mut text)
        .map_err(unreadable_text)?;
    let is_cut = text.len() == length;
    if let Err(fault) = std::str::from_utf8(&text) {
        // The last character may be cut.
        if fault.error_len().is_some() || !is_cut {
            return Err(invalid(UNSUPPORTED));
        }
        text.truncate(fault.valid_up_to());
    }
    let text = String::from_utf8(text).map_err(anyhow::Error::from)?;
    Ok(Beginning { text, is_cut })
}

/// UTF-8 as it is, without a byte order mark; UTF-16 with one as UTF-8.
fn decoder<R: Read>(bytes: R) -> DecodedText<R> {
    DecodeReaderBytesBuilder::new()
        .utf8_passthru(true)
        .strip_bom(true)
        .build(CheckedUtf16::new(bytes))
}

/// The first bytes of formats that are no text.
const MAGIC: [(&[u8], &str); 14] = [
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook (.xls)",
    ),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh91AY&SY", "a bzip2 archive"),
    (b"\x04\x22\x4d\x18", "an LZ4 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"PAR1", "a Parquet file"),
    (b"{\\rtf", "an RTF document"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xff\xfe\0\0", "in UTF-32"),
    (b"\0\0\xfe\xff", "in UTF-32"),
];

/// The apparent format of a file that is no delimited text.
fn format(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(zip_format(bytes));
    }
    let known = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
    if let Some((_, format)) = known {
        return Some(format);
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return None;
    }
    let start = &bytes[..bytes.len().min(1_024)];
    let zeros = |parity: usize| {
        start
            .iter()
            .skip(parity)
            .step_by(2)
            .filter(|byte| **byte == 0)
            .count()
    };
    if start.contains(&0) && zeros(0).max(zeros(1)) * 4 > start.len() {
        return Some("in UTF-16 without a byte order mark");
    }
    let is_control = |byte: &u8| matches!(byte, 1..=8 | 14..=26 | 28..=31);
    if start.iter().any(is_control) {
        return Some("a binary file");
    }
    None
}

fn zip_format(bytes: &[u8]) -> &'static str {
    let contains = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    if contains(b"[Content_Types].xml") || contains(b"xl/") {
        "an Excel workbook (.xlsx)"
    } else if contains(b"opendocument.spreadsheet") {
        "an OpenDocument spreadsheet (.ods)"
    } else {
        "a ZIP archive"
    }
}

/// HTML, XML and JSON by their first characters.
fn markup(text: &str) -> Option<&'static str> {
    let start: String = text.trim_start().chars().take(1_024).collect();
    let text = start.to_ascii_lowercase();
    let after = |bracket| text.strip_prefix(bracket).map(str::trim_start);
    if ["<!doctype html", "<html", "<table", "<head", "<body"]
        .iter()
        .any(|tag| text.starts_with(tag))
    {
        Some("an HTML page")
    } else if text.starts_with("<?xml") || text.starts_with("<!doctype") {
        Some("an XML document")
    } else if after('{').is_some_and(|rest| rest.starts_with(['"', '}']))
        || after('[').is_some_and(begins_list)
    {
        Some("JSON")
    } else {
        None
    }
}

/// Whether a list of JSON begins in this way after its bracket. `[2024] Export` is a title.
fn begins_list(rest: &str) -> bool {
    if rest.starts_with(['{', '[', '"', ']']) {
        return true;
    }
    let is_literal = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    let end = rest
        .find(|letter| !is_literal(letter))
        .unwrap_or(rest.len());
    let (literal, rest) = rest.split_at(end);
    let is_value = serde_json::from_str::<serde_json::Value>(literal).is_ok();
    match rest.trim_start().strip_prefix(']') {
        Some(rest) => {
            is_value
                && rest
                    .lines()
                    .next()
                    .is_none_or(|line| line.trim().is_empty())
        }
        None => is_value && rest.trim_start().starts_with(','),
    }
}

/// The decoded text of a file. Reading fails with a [`Fault`] at the first place that is no delimited text.
#[derive(Debug)]
pub struct PersonText {
    text: io::Chain<DecodedText<File>, &'static [u8]>,
    delimiter: u8,
    quotes: Quotes,
    line: u64,
    /// The line of the last opening quotation mark.
    opened: u64,
    /// The bytes of the row so far.
    row: usize,
}

/// The place in a cell, as far as quotation marks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// Before the first character of a cell.
    Start,
    /// In a cell without quotation marks around it. Marks are characters like others there.
    Bare,
    Quoted,
    /// After a quotation mark that ends the cell, unless another one follows.
    Closed,
}

impl PersonText {
    /// `line_end` is that of the file, so that a last line without one is read as the others.
    pub fn new(file: File, delimiter: u8, line_end: &'static [u8]) -> Self {
        Self {
            text: decoder(file).chain(line_end),
            delimiter,
            quotes: Quotes::Start,
            line: 1,
            opened: 1,
            row: 0,
        }
    }

    fn pass(&mut self, byte: u8) -> Result<(), Fault> {
        let ends_row = matches!(byte, b'\n' | b'\r') && self.quotes != Quotes::Quoted;
        self.row = if ends_row { 0 } else { self.row + 1 };
        if self.row > LONGEST_ROW {
            return Err(self.long_row());
        }
        self.quotes = match (self.quotes, byte) {
            (_, 0) => {
                let line = self.line;
                return Err(Fault(format!(
                    "CSV file format is invalid: line {line} contains the character NUL, so the file is no text."
                )));
            }
            (Quotes::Quoted, b'"') => Quotes::Closed,
            (Quotes::Quoted, _) => Quotes::Quoted,
            (_, b'\n' | b'\r') => Quotes::Start,
            (_, delimiter) if delimiter == self.delimiter => Quotes::Start,
            (Quotes::Start, b'"') => {
                self.opened = self.line;
                Quotes::Quoted
            }
            (Quotes::Closed, b'"') => Quotes::Quoted,
            (Quotes::Closed, b' ') => Quotes::Closed,
            (Quotes::Closed, _) => return Err(self.open_quote()),
            (Quotes::Start | Quotes::Bare, _) => Quotes::Bare,
        };
        self.line += u64::from(byte == b'\n');
        Ok(())
    }

    fn open_quote(&self) -> Fault {
        let line = self.opened;
        Fault(format!(
            "CSV file format is invalid: the quotation mark that opens on line {line} does not end before the next \
             cell. Write each quotation mark inside of a cell twice."
        ))
    }

    fn long_row(&self) -> Fault {
        let (line, hint) = match self.quotes {
            Quotes::Quoted => (self.opened, "; the quotation mark on that line may be open"),
            _ => (self.line, ""),
        };
        Fault(format!(
            "CSV file format is invalid: the row on line {line} is longer than {LONGEST_ROW} bytes{hint}."
        ))
    }
}

impl Read for PersonText {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(buffer)?;
        let checked = match read {
            0 if self.quotes == Quotes::Quoted && !buffer.is_empty() => Err(self.open_quote()),
            _ => buffer[..read].iter().try_for_each(|byte| self.pass(*byte)),
        };
        checked.map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        Ok(read)
    }
}
