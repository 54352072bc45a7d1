//! Cells of CSV files that a spreadsheet would run as a formula.
//!
//! Any client with a project token can write such a text, and another user opens the export. So an export puts an
//! apostrophe in front of it, which makes it a text in spreadsheets, and an upload removes this apostrophe.

use std::borrow::Cow;

/// A text as a cell of an export: with one more apostrophe in front if it is a formula.
pub fn escape(text: &str) -> Cow<'_, str> {
    if is_formula(text) && !is_number(text) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text of a cell of an upload: without the apostrophe of [`escape`].
pub fn unescape(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_formula(text) => text,
        _ => cell,
    }
}

/// Whether a text is a formula, or an escaped one.
fn is_formula(text: &str) -> bool {
    text.trim_start_matches('\'')
        .starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Whether a text is one number, such as `-5`.
fn is_number(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().all(is_part) && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_get_an_apostrophe_and_numbers_do_not() {
        for text in [
            "=1+1", "+a", "-a", "@a", "\ta", "\ra", "'=a", "''-5", "-5+1", "-inf", "-",
        ] {
            assert_eq!(escape(text), format!("'{text}"));
        }
        for text in ["", "a", "'", "'a", "a=1", " =1", "-5", "+5", "-1.5e-3", "5"] {
            assert_eq!(escape(text), text);
            assert_eq!(unescape(text), text);
        }
    }

    #[test]
    fn an_upload_reads_the_text_that_was_exported() {
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            let longer: Vec<String> = texts
                .iter()
                .flat_map(|text| {
                    "'=-1\ta"
                        .chars()
                        .map(move |letter| format!("{text}{letter}"))
                })
                .collect();
            for text in &longer {
                assert_eq!(unescape(&escape(text)), text);
            }
            texts = longer;
        }
    }
}
