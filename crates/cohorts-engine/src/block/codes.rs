//! The codes of the rows of a column.

use std::ops::Range;

/// The code of a row without a value. The code of a value is its index in the dictionary plus one.
pub(super) const MISSING: u32 = 0;

/// The dictionary index of a code, or `None` for a missing value.
#[inline]
pub(super) fn index_of(code: u32) -> Option<usize> {
    code.checked_sub(1).map(|index| index as usize)
}

/// The code of a dictionary index.
#[inline]
pub(super) fn code_of(index: u32) -> u32 {
    index + 1
}

/// One code per row, as narrow as the size of the dictionary allows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Codes {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
}

impl Default for Codes {
    fn default() -> Codes {
        Codes::Bytes(Vec::new())
    }
}

/// The width of a code, in bytes.
pub(super) enum CodeWidth {
    One,
    Two,
    Four,
}

impl CodeWidth {
    /// The width for a dictionary of `values` values.
    pub fn of(values: usize) -> CodeWidth {
        match values {
            0..=0xFF => CodeWidth::One,
            0x100..=0xFFFF => CodeWidth::Two,
            _ => CodeWidth::Four,
        }
    }
}

impl Codes {
    /// The codes of a column with `values` distinct values. No code may exceed `values`.
    pub fn new(codes: impl Iterator<Item = u32>, values: usize) -> Codes {
        match CodeWidth::of(values) {
            CodeWidth::One => Codes::Bytes(codes.map(|code| code as u8).collect()),
            CodeWidth::Two => Codes::Shorts(codes.map(|code| code as u16).collect()),
            CodeWidth::Four => Codes::Words(codes.collect()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Codes::Bytes(codes) => codes.len(),
            Codes::Shorts(codes) => codes.len(),
            Codes::Words(codes) => codes.len(),
        }
    }

    #[inline]
    pub fn code(&self, row: usize) -> u32 {
        match self {
            Codes::Bytes(codes) => codes[row].into(),
            Codes::Shorts(codes) => codes[row].into(),
            Codes::Words(codes) => codes[row],
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(|row| self.code(row))
    }

    pub fn max(&self) -> u32 {
        let max = match self {
            Codes::Bytes(codes) => codes.iter().max().map(|code| u32::from(*code)),
            Codes::Shorts(codes) => codes.iter().max().map(|code| u32::from(*code)),
            Codes::Words(codes) => codes.iter().max().copied(),
        };
        max.unwrap_or(MISSING)
    }

    /// The memory that the codes take, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Codes::Bytes(codes) => size_of_val(codes.as_slice()),
            Codes::Shorts(codes) => size_of_val(codes.as_slice()),
            Codes::Words(codes) => size_of_val(codes.as_slice()),
        }
    }

    /// The codes of `rows`, in this order.
    pub fn take(&self, rows: &[u32]) -> Codes {
        fn take<T: Copy>(codes: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|row| codes[*row as usize]).collect()
        }
        match self {
            Codes::Bytes(codes) => Codes::Bytes(take(codes, rows)),
            Codes::Shorts(codes) => Codes::Shorts(take(codes, rows)),
            Codes::Words(codes) => Codes::Words(take(codes, rows)),
        }
    }

    /// Clears the flags of `rows` if their code does not match, given the matches by code.
    pub fn filter(&self, rows: Range<usize>, by_code: &[bool], flags: &mut [bool]) {
        fn filter<T: Copy + Into<u32>>(codes: &[T], by_code: &[bool], flags: &mut [bool]) {
            for (flag, code) in flags.iter_mut().zip(codes) {
                let code: u32 = (*code).into();
                *flag &= by_code[code as usize];
            }
        }
        match self {
            Codes::Bytes(codes) => filter(&codes[rows], by_code, flags),
            Codes::Shorts(codes) => filter(&codes[rows], by_code, flags),
            Codes::Words(codes) => filter(&codes[rows], by_code, flags),
        }
    }
}
