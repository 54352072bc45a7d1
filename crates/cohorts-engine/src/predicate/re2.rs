//! Reads regular expressions as RE2 does, the library that PostHog's database uses, and compiles them.
//!
//! A pattern is translated into the syntax of the crate `regex`, which has the same guarantee of linear time. The rules
//! are those of RE2's page on syntax: `\d`, `\w`, `\s` and `\b` are ASCII, a brace that begins no repetition is a
//! literal, and classes have no set operations. As in ClickHouse, `.` matches a newline.

use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::is_meta_character;

use super::compile::{LARGE_COST, PATTERN_LIMIT, SMALL_PATTERN};

/// RE2's limit of the numbers in `{n,m}`.
const MAX_REPEAT: u32 = 1_000;
/// An error shows this many characters of a pattern.
const SHOWN: usize = 100;

/// A pattern that can be read, or the reason why not.
pub(super) struct Compiled {
    /// The compiled pattern with its translation; otherwise a sentence that names the pattern.
    pub result: Result<(Regex, String), String>,
    /// The cost in units of the budget for patterns.
    pub cost: u32,
}

/// Compiles a pattern.
pub(super) fn compile(pattern: &str) -> Compiled {
    let fail = |cause: String| {
        let shown: String = pattern.chars().take(SHOWN).collect();
        let rest = if shown.len() < pattern.len() {
            "…"
        } else {
            ""
        };
        format!("the regular expression '{shown}{rest}' cannot be read: {cause}")
    };
    let translated = match translate(pattern) {
        Ok(translated) => translated,
        Err(cause) => {
            let result = Err(fail(cause));
            return Compiled { result, cost: 1 };
        }
    };
    let within = |limit: usize| {
        let mut builder = RegexBuilder::new(&translated);
        builder.size_limit(limit).dfa_size_limit(PATTERN_LIMIT);
        builder.build()
    };
    let (built, cost) = match within(SMALL_PATTERN) {
        Err(regex::Error::CompiledTooBig(_)) => (within(PATTERN_LIMIT), LARGE_COST),
        built => (built, 1),
    };
    let result = match built {
        Ok(regex) => Ok((regex, translated)),
        Err(regex::Error::CompiledTooBig(_)) => Err(fail("it is too large".to_owned())),
        Err(_) => Err(fail(syntax_error(&translated))),
    };
    Compiled { result, cost }
}

/// The reason why the crate cannot read a translated pattern, without the pattern.
fn syntax_error(translated: &str) -> String {
    let mut parser = regex_syntax::ParserBuilder::new().utf8(false).build();
    match parser.parse(translated) {
        Err(regex_syntax::Error::Parse(error)) => error.kind().to_string(),
        Err(regex_syntax::Error::Translate(error)) => error.kind().to_string(),
        _ => "its syntax is invalid".to_owned(),
    }
}

/// The pattern in the syntax of the crate.
fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator {
        rest: pattern.chars(),
        out: String::with_capacity(pattern.len() + 8),
        before: Before::Start,
    };
    translator.out.push_str("(?s)");
    while let Some(letter) = translator.rest.next() {
        translator.item(letter)?;
    }
    Ok(translator.out)
}

/// The part of a pattern before the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The start of the pattern, of a group or of an alternative.
    Start,
    Item,
    Repetition,
}

struct Translator<'p> {
    rest: Chars<'p>,
    out: String,
    before: Before,
}

/// The classes in double brackets.
const CLASS_NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// A set of characters that an escape sequence names.
struct PerlClass {
    negated: bool,
    /// The members, as inside of brackets.
    members: &'static str,
}

fn perl_class(letter: char) -> Option<PerlClass> {
    let members = match letter.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\x0C\r ",
        _ => return None,
    };
    let negated = letter.is_ascii_uppercase();
    Some(PerlClass { negated, members })
}

impl Translator<'_> {
    fn item(&mut self, letter: char) -> Result<(), String> {
        match letter {
            '\\' => return self.escape(),
            '[' => self.class()?,
            '(' => return self.group(),
            '*' | '+' | '?' => return self.repetition(letter.to_string()),
            '{' => match self.bounds()? {
                Some(bounds) => return self.repetition(bounds),
                None => self.literal('{'),
            },
            '|' => {
                self.out.push('|');
                self.before = Before::Start;
                return Ok(());
            }
            ')' | '^' | '$' | '.' => self.out.push(letter),
            other => self.literal(other),
        }
        self.before = Before::Item;
        Ok(())
    }

    fn literal(&mut self, letter: char) {
        if is_meta_character(letter) {
            self.out.push('\\');
        }
        self.out.push(letter);
    }

    /// Consumes `prefix` if it is next.
    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.as_str().strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest.chars();
                true
            }
            None => false,
        }
    }

    fn repetition(&mut self, operator: String) -> Result<(), String> {
        match self.before {
            Before::Start => return Err(format!("there is nothing to repeat before '{operator}'")),
            Before::Repetition => {
                return Err(format!("the repetition '{operator}' follows a repetition"));
            }
            Before::Item => {}
        }
        self.out.push_str(&operator);
        if self.take("?") {
            self.out.push('?');
        }
        self.before = Before::Repetition;
        Ok(())
    }

    /// The rest of `{n}`, `{n,}` or `{n,m}`; `None` if the brace begins no repetition.
    fn bounds(&mut self) -> Result<Option<String>, String> {
        let Some((inside, rest)) = self.rest.as_str().split_once('}') else {
            return Ok(None);
        };
        let (low, high) = match inside.split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (inside, None),
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_end = |text: &str| text.is_empty() || is_number(text);
        if !is_number(low) || !high.is_none_or(is_end) {
            return Ok(None);
        }
        let number = |text: &str| {
            text.parse()
                .ok()
                .filter(|number: &u32| *number <= MAX_REPEAT)
        };
        let low = number(low);
        let is_valid = match high.filter(|high| !high.is_empty()) {
            Some(high) => number(high).zip(low).is_some_and(|(high, low)| low <= high),
            None => low.is_some(),
        };
        if !is_valid {
            return Err(format!("the repetition '{{{inside}}}' is invalid"));
        }
        self.rest = rest.chars();
        Ok(Some(format!("{{{inside}}}")))
    }

    /// The beginning of a group, with its flags or name.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        self.before = Before::Start;
        if !self.take("?") {
            return Ok(());
        }
        self.out.push('?');
        if self.rest.as_str().starts_with("P<") || self.is_named() {
            let end = self
                .rest
                .as_str()
                .find('>')
                .ok_or("the name of a group does not end")?;
            let (name, rest) = self.rest.as_str().split_at(end + 1);
            self.out.push_str(name);
            self.rest = rest.chars();
            return Ok(());
        }
        loop {
            let flag = self.rest.next().ok_or("a group does not end")?;
            self.out.push(flag);
            match flag {
                ':' | ')' => return Ok(()),
                'i' | 'm' | 's' | 'U' | '-' => {}
                _ => {
                    return Err(format!(
                        "'(?{flag}' begins no group; look-around is not supported"
                    ));
                }
            }
        }
    }

    fn is_named(&self) -> bool {
        let rest = self.rest.as_str();
        rest.starts_with('<') && !rest.starts_with("<=") && !rest.starts_with("<!")
    }

    /// The rest of an escape sequence outside of brackets.
    fn escape(&mut self) -> Result<(), String> {
        let letter = self.rest.next().ok_or("it ends with a backslash")?;
        self.before = Before::Item;
        match letter {
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => self.out.push_str(r"(?-u:\B)"),
            'A' | 'z' => self.out.extend(['\\', letter]),
            'C' => self.out.push_str("(?s-u:.)"),
            'Q' => self.quoted(),
            'p' | 'P' => self.unicode_class(letter == 'P')?,
            _ => match perl_class(letter) {
                Some(PerlClass { negated, members }) => {
                    let sign = if negated { "^" } else { "" };
                    self.out.push_str(&format!("(?-i:[{sign}{members}])"));
                }
                None => {
                    let letter = self.escaped_letter(letter)?;
                    self.literal(letter);
                }
            },
        }
        Ok(())
    }

    /// The text up to `\E`, or to the end.
    fn quoted(&mut self) {
        while !self.take(r"\E") {
            let Some(letter) = self.rest.next() else {
                return;
            };
            self.literal(letter);
        }
    }

    /// The character of an escape sequence that begins with `letter`.
    fn escaped_letter(&mut self, letter: char) -> Result<char, String> {
        let invalid = || format!("the escape sequence '\\{letter}' is invalid");
        let is_octal = |next: Option<char>| next.is_some_and(|next| next.is_digit(8));
        Ok(match letter {
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.hexadecimal().ok_or_else(invalid)?,
            // One digit alone would be a back-reference.
            '1'..='7' if !is_octal(self.rest.clone().next()) => return Err(invalid()),
            '0'..='7' => {
                let mut code = letter.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.rest.clone().next().and_then(|next| next.to_digit(8))
                    else {
                        break;
                    };
                    self.rest.next();
                    code = code * 8 + digit;
                }
                char::from_u32(code).ok_or_else(invalid)?
            }
            // Also `\_`, as in RE2.
            punctuation if punctuation.is_ascii() && !punctuation.is_ascii_alphanumeric() => {
                punctuation
            }
            _ => return Err(invalid()),
        })
    }

    /// Two hexadecimal digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.take("{") {
            let (digits, rest) = self.rest.as_str().split_once('}')?;
            self.rest = rest.chars();
            digits
        } else {
            let digits = self.rest.as_str().get(..2)?;
            self.rest = self.rest.as_str()[2..].chars();
            digits
        };
        let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
        char::from_u32(code)
    }

    /// The rest of `\pL`, `\p{Greek}` or `\p{^Greek}`: a general category or a script.
    fn unicode_class(&mut self, negated: bool) -> Result<(), String> {
        let name = if self.take("{") {
            let (name, rest) = self
                .rest
                .as_str()
                .split_once('}')
                .ok_or("a class does not end")?;
            self.rest = rest.chars();
            name.to_owned()
        } else {
            self.rest.next().ok_or("a class has no name")?.to_string()
        };
        let (name, negated) = match name.strip_prefix('^') {
            Some(name) => (name, !negated),
            None => (&*name, negated),
        };
        let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !is_name {
            return Err(format!("the class '{name}' is unknown"));
        }
        let property = match name {
            "Any" => "",
            category if category.len() <= 2 => "gc=",
            _ => "sc=",
        };
        let letter = if negated { 'P' } else { 'p' };
        self.out
            .push_str(&format!("\\{letter}{{{property}{name}}}"));
        Ok(())
    }

    /// The rest of a class in brackets.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            if self.take("]") {
                if !is_first {
                    self.out.push(']');
                    return Ok(());
                }
                // The first bracket is a member.
                self.range(']')?;
            } else if self.rest.as_str().starts_with("[:") && self.named_class()? {
            } else {
                let letter = self.rest.next().ok_or("a class in brackets does not end")?;
                self.class_item(letter)?;
            }
            is_first = false;
        }
    }

    /// A class such as `[:alpha:]`; `false` if the brackets do not end, so that the first one is a member.
    fn named_class(&mut self) -> Result<bool, String> {
        let Some((name, rest)) = self.rest.as_str()[2..].split_once(":]") else {
            return Ok(false);
        };
        let bare = name.strip_prefix('^').unwrap_or(name);
        if !CLASS_NAMES.contains(&bare) {
            return Err(format!("the class '[:{name}:]' is unknown"));
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest = rest.chars();
        Ok(true)
    }

    fn class_item(&mut self, letter: char) -> Result<(), String> {
        if letter != '\\' {
            return self.range(letter);
        }
        let letter = self.rest.next().ok_or("it ends with a backslash")?;
        if matches!(letter, 'p' | 'P') {
            return self.unicode_class(letter == 'P');
        }
        match perl_class(letter) {
            Some(PerlClass {
                negated: true,
                members,
            }) => {
                self.out.push_str(&format!("[^{members}]"));
            }
            Some(PerlClass { members, .. }) => self.out.push_str(members),
            None => {
                let letter = self.escaped_letter(letter)?;
                return self.range(letter);
            }
        }
        Ok(())
    }

    /// A member of a class, or a range that begins with it.
    fn range(&mut self, low: char) -> Result<(), String> {
        self.literal(low);
        let rest = self.rest.as_str();
        if !rest.starts_with('-') || rest.starts_with("-]") || rest == "-" {
            return Ok(());
        }
        self.rest.next();
        let mut high = self.rest.next().unwrap_or_default();
        if high == '\\' {
            let letter = self.rest.next().ok_or("it ends with a backslash")?;
            high = self.escaped_letter(letter)?;
        }
        if high < low {
            return Err(format!("the range '{low}-{high}' is reversed"));
        }
        self.out.push('-');
        self.literal(high);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn matches(pattern: &str, texts: &[&str], others: &[&str]) {
        let (regex, translated) = compile(pattern).result.unwrap();
        for text in texts {
            assert!(
                regex.is_match(text.as_bytes()),
                "{translated} does not match {text:?}"
            );
        }
        for text in others {
            assert!(
                !regex.is_match(text.as_bytes()),
                "{translated} matches {text:?}"
            );
        }
    }

    #[test]
    fn braces_and_brackets_that_begin_nothing_are_literals() {
        matches(r#"^{"plan""#, &[r#"{"plan":1}"#], &["plan"]);
        matches("^a{,2}$", &["a{,2}"], &["aa"]);
        matches("^a{2}$", &["aa"], &["a{2}"]);
        matches("^[^@[\\]]+@", &["a@"], &["[@", "]@"]);
        matches("^[]a]+$", &["]a"], &["b"]);
        matches("^[a&&b~~d-]+$", &["a&b-~d"], &["e"]);
        matches("^a]}$", &["a]}"], &["a"]);
        matches("^[[:digit:]x-]+$", &["7x-"], &["a"]);
        matches("^[a-c[.-]+$", &["b[.-"], &["d"]);
    }

    #[test]
    fn classes_are_ascii_and_the_dot_takes_newlines() {
        matches(r"^\w+$", &["Jose"], &["José", "٣"]);
        matches(r"^\d$", &["3"], &["٣"]);
        matches(r"^[^\d\W]$", &["a"], &["1", "é"]);
        matches(r"^\s$", &["\t", "\n"], &["\u{a0}", "\u{b}"]);
        matches(r"\bcole\b", &["école", "a cole"], &["coles"]);
        matches("first.*second", &["first\nsecond"], &["first"]);
        matches("(?-s)first.*second", &[], &["first\nsecond"]);
        matches(r"(?i)^\w$", &["k"], &["\u{212a}"]);
        matches(r"^\p{Greek}\pL\PN\p{^Latin}$", &["αβγδ"], &["aβγδ", "αβγd"]);
    }

    #[test]
    fn escape_sequences_are_those_of_re2() {
        matches(r"^\x41\x{1F600}\101\Q.*\E\<\-\.$", &["A😀A.*<-."], &["A"]);
        matches(r"^\Qa.b", &["a.b"], &["axb"]);
        matches(r"^a\_b[\_]$", &["a_b_"], &["ab_"]);
        matches(r"^a\Cb$", &["axb"], &["ab"]);
        matches(r"\Aab\z", &["ab"], &["ab\n"]);
    }

    #[test]
    fn a_pattern_that_re2_cannot_read_is_an_error_that_names_it() {
        let patterns = [
            "(",
            ")",
            "[a-z",
            "[z-a]",
            "*a",
            "a**",
            "a{2}{3}",
            "a{2,1}",
            "a{1001}",
            "(?=a)",
            "(?<!a)",
            r"(a)\1",
            r"\y",
            r"\pX",
            r"\p{Alphabetic}",
            r"\p{greek}",
            "(?x)a",
            "[[:word",
            r"a\",
            "(?P<n",
            "[[:Alpha:]]",
            "[[:foo:]]",
            "[[:^a:]]",
            "|*",
            r"\8",
            r"\xZZ",
            "[a",
        ];
        for pattern in patterns {
            let sentence = compile(pattern).result.unwrap_err();
            assert!(sentence.contains(&format!("'{pattern}'")), "{sentence}");
        }
        let sentence = compile("((a{100}){100}){100}").result.unwrap_err();
        assert!(sentence.ends_with("it is too large"), "{sentence}");
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in r"[\[\](){}|*+?.^$\\a-cQEpPxdwsb0-9,:&~<>=!-]{0,12}") {
            let _ = compile(&pattern);
        }

        #[test]
        fn an_escaped_text_matches_itself_only(text in ".{0,8}", other in ".{0,8}") {
            let (regex, _) = compile(&format!("^{}$", regex::escape(&text))).result.unwrap();
            prop_assert!(regex.is_match(text.as_bytes()));
            prop_assert_eq!(regex.is_match(other.as_bytes()), other == text);
        }
    }
}
