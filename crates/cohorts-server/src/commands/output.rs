//! What commands print on standard output.

use std::io::{self, Write};

/// Prints a text and a line end. It is one write, so a reader that closes the pipe after the first line causes no error.
///
/// # Errors
///
/// Fails if standard output is closed.
pub fn print(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{}\n", text.as_ref()).as_bytes())?;
    Ok(out.flush()?)
}

/// A count with its noun, such as `1 event` and `2 events`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
