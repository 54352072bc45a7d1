//! Words that make prose hard to read, missing module docs, and files that are too long.

use super::sources::{Source, sources};

/// The checked folders of the workspace.
const FOLDERS: [&str; 3] = ["crates", "tests", "xtask"];

/// Words and phrases that comments, documents and names of functions must not contain.
const BANNED: [&str; 10] = [
    "whoever", "whose", "whom", "nobody", "somebody", "anew", "so many", "so much", "of which",
    "at hand",
];

/// A file, and a banned word that is plain there. Keep this list short.
const ALLOWED: [(&str, &str); 0] = [];

/// The most lines of a file, and the most lines of code in it: without comments, blank lines and unit tests.
const LINES: usize = 700;
const LINES_OF_CODE: usize = 400;

/// The prose of a file, line by line with line numbers.
fn prose(source: &Source) -> Vec<(usize, String)> {
    let numbered = |line: (usize, &str)| (line.0 + 1, line.1.to_owned());
    let lines = source.text.lines().enumerate().map(numbered);
    match source.path.rsplit('.').next() {
        Some("rs") => {
            let code = source.code();
            let names = code
                .lines()
                .enumerate()
                .filter(|(_, line)| line.contains("fn "));
            let names = names.map(|(at, line)| (at + 1, line.replace('_', " ")));
            source.comments().into_iter().chain(names).collect()
        }
        Some("md") => lines.collect(),
        Some("py") => {
            let mut in_doc = false;
            let mut is_prose = |line: &str| {
                let marks = line.matches("\"\"\"").count();
                let was_in_doc = in_doc;
                in_doc ^= marks % 2 == 1;
                was_in_doc || marks > 0 || line.trim_start().starts_with('#')
            };
            lines.filter(|(_, line)| is_prose(line)).collect()
        }
        _ => {
            let is_comment = |line: &str| line.trim_start().starts_with(['#', '/']);
            lines.filter(|(_, line)| is_comment(line)).collect()
        }
    }
}

/// The text in lower case, with single spaces between words and without punctuation.
fn words(text: &str) -> String {
    let parts = text.split(|letter: char| !letter.is_alphanumeric() && letter != '\'');
    let parts = parts.filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ").to_lowercase()
}

#[test]
fn prose_has_no_banned_words() {
    let mut uses = Vec::new();
    for folder in FOLDERS {
        for extension in ["rs", "md", "py", "mjs", "ts", "toml", "yaml"] {
            for source in sources(folder, extension) {
                let lines = prose(&source);
                for (at, (number, line)) in lines.iter().enumerate() {
                    let before = format!(" {} ", words(line));
                    // A phrase may continue on the next line.
                    let next = lines.get(at + 1).filter(|(next, _)| *next == number + 1);
                    let next = next.map(|(_, line)| words(line)).unwrap_or_default();
                    let next = next.split(' ').next().unwrap_or_default();
                    for word in BANNED {
                        let with_next = match word.contains(' ') {
                            true => format!("{before}{next} "),
                            false => before.clone(),
                        };
                        if with_next.contains(&format!(" {word} "))
                            && !ALLOWED.contains(&(source.path.as_str(), word))
                        {
                            uses.push(format!("{}:{number}: {word}", source.path));
                        }
                    }
                }
            }
        }
    }
    assert!(uses.is_empty(), "banned words:\n{}", uses.join("\n"));
}

#[test]
fn modules_start_with_their_purpose() {
    let missing: Vec<String> = FOLDERS
        .into_iter()
        .flat_map(|folder| sources(folder, "rs"))
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert!(missing.is_empty(), "without `//!`:\n{}", missing.join("\n"));
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for source in FOLDERS.into_iter().flat_map(|folder| sources(folder, "rs")) {
        let lines = source.text.lines().count();
        if lines > LINES {
            long.push(format!("{}: {lines} lines", source.path));
        }
        let code = source.code_without_tests();
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > LINES_OF_CODE && !source.is_test() {
            long.push(format!("{}: {lines} lines of code", source.path));
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}
