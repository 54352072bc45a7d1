//! A check of UTF-16, which passes the bytes of a file on.
//!
//! The decoder replaces what is malformed, so this refuses it before.

use std::io::{self, Read};

use super::text::Fault;

const BYTE_ORDER_MARKS: [[u8; 2]; 2] = [*b"\xff\xfe", *b"\xfe\xff"];

/// The bytes of a file. If it begins with a byte order mark of UTF-16, reading fails with a [`Fault`] at malformed text.
#[derive(Debug)]
pub struct CheckedUtf16<R> {
    bytes: R,
    encoding: Encoding,
    /// The first byte of a unit that has not ended.
    half: Option<u8>,
    /// Whether the last unit needs a second one.
    is_open: bool,
    line: u64,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// Before the first two bytes.
    Unknown,
    Utf16(fn([u8; 2]) -> u16),
    Other,
}

impl<R: Read> CheckedUtf16<R> {
    pub fn new(bytes: R) -> Self {
        Self {
            bytes,
            encoding: Encoding::Unknown,
            half: None,
            is_open: false,
            line: 1,
        }
    }

    fn pass(&mut self, byte: u8) -> Result<(), Fault> {
        let Some(first) = self.half.take() else {
            self.half = Some(byte);
            return Ok(());
        };
        let pair = [first, byte];
        match self.encoding {
            Encoding::Unknown => {
                self.encoding = match BYTE_ORDER_MARKS.iter().position(|mark| *mark == pair) {
                    Some(0) => Encoding::Utf16(u16::from_le_bytes),
                    Some(_) => Encoding::Utf16(u16::from_be_bytes),
                    None => Encoding::Other,
                };
                Ok(())
            }
            Encoding::Utf16(unit) => self.pass_unit(unit(pair)),
            Encoding::Other => Ok(()),
        }
    }

    fn pass_unit(&mut self, unit: u16) -> Result<(), Fault> {
        let is_second = matches!(unit, 0xdc00..=0xdfff);
        if is_second != self.is_open {
            return Err(self.malformed());
        }
        self.is_open = matches!(unit, 0xd800..=0xdbff);
        self.line += u64::from(unit == u16::from(b'\n'));
        Ok(())
    }

    fn end(&self) -> Result<(), Fault> {
        let is_utf16 = matches!(self.encoding, Encoding::Utf16(_));
        if is_utf16 && (self.is_open || self.half.is_some()) {
            return Err(self.malformed());
        }
        Ok(())
    }

    fn malformed(&self) -> Fault {
        let line = self.line;
        Fault(format!(
            "CSV file encoding is not supported: line {line} contains malformed UTF-16. Please save the file as UTF-8 \
             and try again."
        ))
    }
}

impl<R: Read> Read for CheckedUtf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        let checked = match (self.encoding, read) {
            (_, 0) if !buffer.is_empty() => self.end(),
            (Encoding::Other, _) => Ok(()),
            _ => buffer[..read].iter().try_for_each(|byte| self.pass(*byte)),
        };
        checked.map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        Ok(read)
    }
}
