//! Lines of a file or of standard input, plain or compressed, with the progress of reading.
//!
//! The first bytes tell the compression, not the name, so standard input works too. The contents of lines are not parsed
//! here.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use flate2::bufread::MultiGzDecoder;

/// The most bytes of a line. Events are far smaller, so a longer line means that the file has no line ends.
const MAX_LINE_BYTES: u64 = 20 * 1024 * 1024;
const BUFFER: usize = 256 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The first bytes of files that cannot have lines of JSON, with their format and the remedy.
const OTHER_FORMATS: [(&[u8], &str); 7] = [
    (b"PK\x03\x04", "a zip archive; extract its files first"),
    (b"PAR1", "a Parquet file; export JSON lines instead"),
    (b"Obj\x01", "an Avro file; export JSON lines instead"),
    (b"BZh", "a bzip2 file; decompress it first"),
    (b"\xfd7zX", "an xz file; decompress it first"),
    (b"\xff\xfe", "UTF-16 text; convert it to UTF-8 first"),
    (b"\xfe\xff", "UTF-16 text; convert it to UTF-8 first"),
];
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// A line that is not blank, without trailing white space.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Counted from 1, with blank lines.
    pub number: u64,
    pub text: Vec<u8>,
}

/// How many bytes of the input have been read, before decompression.
#[derive(Clone, Debug)]
pub struct ReadProgress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl ReadProgress {
    /// Bytes read.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The bytes of the input; `None` if they are unknown, as for standard input.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

/// The lines of one input. The iteration ends after an error.
pub struct Lines {
    name: String,
    input: Box<dyn BufRead + Send>,
    progress: ReadProgress,
    number: u64,
    max_bytes: u64,
    has_failed: bool,
}

/// Opens the file at `path`, or standard input for `-`.
pub fn open(path: &str) -> anyhow::Result<Lines> {
    if path == "-" {
        return Lines::new("standard input", io::stdin(), None);
    }
    let metadata = fs::metadata(path).with_context(|| format!("cannot open {path}"))?;
    ensure!(!metadata.is_dir(), "cannot read {path}: it is a directory");
    let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    Lines::new(path, file, metadata.is_file().then_some(metadata.len()))
}

impl Lines {
    fn new(
        name: &str,
        source: impl Read + Send + 'static,
        total: Option<u64>,
    ) -> anyhow::Result<Self> {
        let read = Arc::<AtomicU64>::default();
        let mut source = CountingReader {
            source,
            read: Arc::clone(&read),
        };
        let mut head = Vec::new();
        source
            .by_ref()
            .take(ZSTD.len() as u64)
            .read_to_end(&mut head)
            .with_context(|| format!("cannot read {name}"))?;
        let mut others = OTHER_FORMATS.iter();
        if let Some((_, format)) = others.find(|(begin, _)| head.starts_with(begin)) {
            bail!("cannot read {name}: it is {format}");
        }
        let gzip = head.starts_with(GZIP);
        let zstd = head.starts_with(ZSTD);
        let stored = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(source));
        let input: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(
                BUFFER,
                MultiGzDecoder::new(stored),
            ))
        } else if zstd {
            let plain = zstd::Decoder::with_buffer(stored)
                .with_context(|| format!("cannot read {name}"))?;
            Box::new(BufReader::with_capacity(BUFFER, plain))
        } else {
            Box::new(stored)
        };
        let progress = ReadProgress { read, total };
        Ok(Self {
            name: name.to_owned(),
            input,
            progress,
            number: 0,
            max_bytes: MAX_LINE_BYTES,
            has_failed: false,
        })
    }

    /// The name of the input in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The progress, which is updated while lines are read.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// The next line, blank or not; `None` at the end.
    fn read_line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        let number = self.number + 1;
        let read = self
            .input
            .by_ref()
            .take(self.max_bytes + 1)
            .read_until(b'\n', &mut text)
            .with_context(|| format!("cannot read {}, line {number}", self.name))?;
        if read == 0 {
            return Ok(None);
        }
        let has_end = text.last() == Some(&b'\n');
        ensure!(
            has_end || read as u64 <= self.max_bytes,
            "{}, line {number} is longer than {} MiB",
            self.name,
            self.max_bytes / (1024 * 1024)
        );
        self.number = number;
        if number == 1 && text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(text))
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            match self.read_line() {
                Ok(None) => return None,
                Ok(Some(mut text)) => {
                    text.truncate(text.trim_ascii_end().len());
                    if !text.is_empty() {
                        return Some(Ok(Line {
                            number: self.number,
                            text,
                        }));
                    }
                }
                Err(cause) => {
                    self.has_failed = true;
                    return Some(Err(cause));
                }
            }
        }
        None
    }
}

struct CountingReader<R> {
    source: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::NamedTempFile;

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &str) -> Vec<u8> {
        zstd::encode_all(text.as_bytes(), 1).unwrap()
    }

    fn file(content: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn lines(content: &[u8]) -> Vec<(u64, String)> {
        let file = file(content);
        let lines = open(file.path().to_str().unwrap())
            .unwrap()
            .map(Result::unwrap);
        lines
            .map(|line| (line.number, String::from_utf8(line.text).unwrap()))
            .collect()
    }

    fn numbered(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines
            .iter()
            .map(|(number, text)| (*number, (*text).to_owned()))
            .collect()
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let expected = numbered(&[(1, "one"), (4, "  four"), (5, "five")]);
        assert_eq!(lines(b"one\n\n \t\n  four\r\nfive"), expected);
        assert_eq!(lines(b"\xef\xbb\xbfone\n"), numbered(&[(1, "one")]));
        assert_eq!(lines(b""), numbered(&[]));
    }

    #[test]
    fn compressed_files_of_several_frames_are_read_to_the_end() {
        let expected = numbered(&[(1, "one"), (2, "two")]);
        assert_eq!(lines(&[gzip("one\nt"), gzip("wo\n")].concat()), expected);
        assert_eq!(lines(&[zstd("one\nt"), zstd("wo\n")].concat()), expected);
    }

    #[test]
    fn progress_counts_compressed_bytes_and_ends_at_their_number() {
        let text = "the same over and over\n".repeat(10_000);
        for content in [text.clone().into_bytes(), gzip(&text), zstd(&text)] {
            let file = file(&content);
            let mut lines = open(file.path().to_str().unwrap()).unwrap();
            let progress = lines.progress();
            assert_eq!(progress.total(), Some(content.len() as u64));
            assert_eq!(lines.by_ref().count(), 10_000);
            assert_eq!(progress.read(), content.len() as u64);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_with_its_number() {
        let mut lines = Lines::new("big.ndjson", &b"12345678\n123456789\n1\n"[..], None).unwrap();
        lines.max_bytes = 8;
        assert_eq!(lines.next().unwrap().unwrap().number, 1);
        let message = lines.next().unwrap().unwrap_err().to_string();
        assert!(
            message.starts_with("big.ndjson, line 2 is longer than"),
            "{message}"
        );
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        for content in [gzip("one\ntwo\n"), zstd("one\ntwo\n")] {
            let file = file(&content[..content.len() - 5]);
            let lines = open(file.path().to_str().unwrap()).unwrap();
            assert!(lines.last().unwrap().is_err());
        }
    }

    #[test]
    fn files_of_other_formats_are_named() {
        for (content, part) in [
            (&b"PK\x03\x04rest"[..], "a zip archive"),
            (b"PAR1rest", "a Parquet file"),
            (b"\xff\xfe{\0", "UTF-16 text"),
        ] {
            let error = Lines::new("export", content, None).err().unwrap();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn the_error_of_a_file_that_cannot_be_opened_has_its_path() {
        let message = |path| format!("{:#}", open(path).err().unwrap());
        assert_eq!(
            message("/no/such/file"),
            "cannot open /no/such/file: No such file or directory (os error 2)"
        );
        assert_eq!(message("/"), "cannot read /: it is a directory");
    }
}
