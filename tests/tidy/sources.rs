//! The files of the repository, and a lexer that separates the code of a Rust file from its comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders without sources of ours.
const SKIPPED: [&str; 4] = ["target", "node_modules", "__pycache__", "generated"];

/// Names of modules that are compiled for tests only.
const TEST_FILES: [&str; 3] = ["tests.rs", "testing.rs", "schema_rules.rs"];

/// A text file, with its path below the root of the repository.
pub struct Source {
    pub path: String,
    pub text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// The names in a folder, sorted; empty if there is no such folder.
pub fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).into_iter().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("a name");
    let mut names: Vec<String> = entries.flatten().map(name).collect();
    names.sort_unstable();
    names
}

/// All files below a folder with this extension, without generated ones.
pub fn sources(folder: &str, extension: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for name in names(folder) {
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            if !SKIPPED.contains(&name.as_str()) && !name.starts_with('.') {
                sources.extend(self::sources(&path, extension));
            }
        } else if name
            .rsplit_once('.')
            .is_some_and(|(_, end)| end == extension)
        {
            let text = read(&path);
            if !text.starts_with("// @generated") {
                sources.push(Source { path, text });
            }
        }
    }
    sources
}

impl Source {
    /// Whether the whole file is compiled for tests only.
    pub fn is_test(&self) -> bool {
        let in_folder = |name| self.path.split('/').any(|part| part == name);
        let file = self.path.rsplit('/').next().unwrap_or_default();
        in_folder("tests") || in_folder("fuzz") || TEST_FILES.contains(&file)
    }

    /// The code without comments and without the contents of literals.
    pub fn code(&self) -> String {
        lex(&self.text).0
    }

    /// As [`Self::code`], without unit tests.
    pub fn code_without_tests(&self) -> String {
        let mut code = String::new();
        let text = self.code();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let next = lines.peek().copied().unwrap_or_default();
            if line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
                lines.by_ref().find(|line| *line == "}");
            } else {
                code.push_str(line);
                code.push('\n');
            }
        }
        code
    }

    /// The comments, line by line with their numbers.
    pub fn comments(&self) -> Vec<(usize, String)> {
        lex(&self.text).1
    }
}

/// Separates code from comments. Literals stay as empty literals.
fn lex(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut comments) = (String::new(), Vec::new());
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, kept) = match first {
            '/' if rest.starts_with("//") => {
                let end = rest.find('\n').unwrap_or(rest.len());
                comments.push((line, rest[..end].to_owned()));
                (end, "")
            }
            '/' if rest.starts_with("/*") => {
                let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
                comments.push((line, rest[..end].to_owned()));
                (end, " ")
            }
            '"' => (string_length(rest), "\"\""),
            'r' if !code.ends_with(is_word) => match raw_string_length(rest) {
                Some(length) => (length, "\"\""),
                None => (1, "r"),
            },
            '\'' => match char_length(rest) {
                Some(length) => (length, "' '"),
                None => (1, "'"),
            },
            _ => (first.len_utf8(), &rest[..first.len_utf8()]),
        };
        code.push_str(kept);
        if length > kept.len() {
            // Lines keep their numbers.
            let lines = rest[..length].matches('\n').count();
            code.push_str(&"\n".repeat(lines));
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    (code, comments)
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string such as `r#"…"#`, or `None` if the text does not start with one.
fn raw_string_length(text: &str) -> Option<usize> {
    let hashes = text[1..]
        .chars()
        .take_while(|letter| *letter == '#')
        .count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(1 + hashes + 1 + length)
}

/// The length of a character literal, or `None` for a lifetime.
fn char_length(text: &str) -> Option<usize> {
    let mut letters = text.char_indices().skip(1);
    let (_, first) = letters.next()?;
    let (at, last) = match first {
        '\\' => letters.skip(1).find(|(_, letter)| *letter == '\'')?,
        _ => letters.next()?,
    };
    (last == '\'').then_some(at + 1)
}

#[test]
fn lexer_separates_code_comments_and_literals() {
    let text =
        "let a = \"// no\\\"\"; // yes\nfn f<'a>(x: &'a str) { r#\"\"x\"# } /* b */ let c = '\\'';";
    let (code, comments) = lex(text);
    assert_eq!(
        code,
        "let a = \"\"; \nfn f<'a>(x: &'a str) { \"\" }   let c = ' ';"
    );
    let expected = [(1, "// yes".to_owned()), (2, "/* b */".to_owned())];
    assert_eq!(comments, expected);
}
