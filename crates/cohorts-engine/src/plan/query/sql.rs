//! Parses the text of a query into a syntax tree.
//!
//! The limits keep the tree shallow, so that later steps may recurse.

use sqlparser::ast::Query;
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::{PATH, unsupported};
use crate::FilterError;

/// The length of a query, in bytes.
pub(super) const MAX_TEXT: usize = 64 * 1024;
/// Keywords and operators of a query; each may add a level to the syntax tree.
pub(super) const MAX_OPERATORS: usize = 500;
/// Levels of parentheses.
const MAX_DEPTH: usize = 50;

/// PostHog's dialect: ClickHouse's, with `$` in identifiers.
#[derive(Debug)]
struct HogQl;

impl Dialect for HogQl {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || matches!(ch, '_' | '$')
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.is_identifier_start(ch) || ch.is_ascii_digit()
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
}

pub(super) fn parse(text: &str) -> Result<Query, FilterError> {
    if text.len() > MAX_TEXT {
        let sentence = format!("the text may have {MAX_TEXT} bytes at most");
        return Err(FilterError::input(PATH, sentence));
    }
    if text.contains('\0') {
        let sentence = "the text must not hold the character NUL, which no stored text has";
        return Err(FilterError::input(PATH, sentence));
    }
    // `operand::unescaped` handles ClickHouse's escapes.
    let mut tokenizer = Tokenizer::new(&HogQl, text).with_unescape(false);
    let tokens = tokenizer.tokenize_with_location();
    let tokens = tokens.map_err(|error| unreadable(error.to_string()))?;
    let tokens = expand_in_cohort(tokens)?;
    if tokens.iter().filter(|token| may_nest(token)).count() > MAX_OPERATORS {
        let sentence = format!("a query may have {MAX_OPERATORS} keywords and operators at most");
        return Err(FilterError::input(PATH, sentence));
    }
    let mut parser = Parser::new(&HogQl)
        .with_recursion_limit(MAX_DEPTH)
        .with_tokens_with_locations(tokens);
    let query = parser.parse_query().map_err(parse_error)?;
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(*query),
        token => Err(unreadable(format!(
            "'{token}' follows the end of the query{}",
            next.span.start
        ))),
    }
}

fn parse_error(error: ParserError) -> FilterError {
    match error {
        ParserError::TokenizerError(cause) | ParserError::ParserError(cause) => unreadable(cause),
        ParserError::RecursionLimitExceeded => {
            unreadable(format!("it nests deeper than {MAX_DEPTH} levels"))
        }
    }
}

fn unreadable(cause: String) -> FilterError {
    FilterError::input(PATH, format!("the SQL cannot be read: {cause}"))
}

fn may_nest(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..) | Token::SingleQuotedString(_) => false,
        Token::Comma | Token::Period | Token::LParen | Token::RParen => false,
        _ => true,
    }
}

/// Replaces PostHog's `IN COHORT 5` by the equivalent subquery. Drops white space and comments.
fn expand_in_cohort(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, FilterError> {
    let visible = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    let mut tokens = tokens.into_iter().filter(visible).peekable();
    let mut expanded = Vec::new();
    while let Some(token) = tokens.next() {
        let is_in = matches!(&token.token, Token::Word(word) if word.keyword == Keyword::IN);
        expanded.push(token);
        if is_in && tokens.next_if(is_cohort).is_some() {
            let id = match tokens.next().map(|token| token.token) {
                Some(Token::Number(id, _)) => id,
                _ => return Err(unsupported("IN COHORT without the id of a cohort")),
            };
            let select = format!("(SELECT person_id FROM cohort_people WHERE cohort_id = {id})");
            let select = Tokenizer::new(&HogQl, &select).tokenize_with_location();
            let select = select.map_err(|error| unreadable(error.to_string()))?;
            expanded.extend(select.into_iter().filter(visible));
        }
    }
    Ok(expanded)
}

fn is_cohort(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Word(word) if word.value.eq_ignore_ascii_case("cohort") && word.quote_style.is_none())
}
