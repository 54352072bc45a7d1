//! The tables that people are chosen from, and their columns.

use std::fmt;

use serde_json::Value;
use sqlparser::ast::{self, AccessExpr, Expr, Subscript};

use super::operand::unescaped;
use super::{PATH, unsupported};
use crate::FilterError;

/// A table that people are chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Persons,
    Events,
    Members,
}

/// What the names in one SELECT mean.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub table: Table,
    pub name: String,
    pub alias: Option<String>,
}

/// What HAVING may look at: how many events, the first and the last instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Count,
    First,
    Last,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Person,
    PersonProperty(String),
    PersonCreatedAt,
    Event,
    Timestamp,
    EventProperty(String),
    /// May be shown, and is not looked at.
    Shown(&'static str),
    CohortId,
    Aggregate(Aggregate),
}

impl Column {
    /// Whether it holds whatever senders put there.
    pub fn is_property(&self) -> bool {
        matches!(self, Column::PersonProperty(_) | Column::EventProperty(_))
    }

    /// Whether it holds instants by nature.
    pub fn is_time(&self) -> bool {
        matches!(
            self,
            Column::PersonCreatedAt
                | Column::Timestamp
                | Column::Aggregate(Aggregate::First | Aggregate::Last)
        )
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::Person => "the person",
            Column::PersonProperty(key) => return write!(f, "the person property '{key}'"),
            Column::PersonCreatedAt => "created_at",
            Column::Event => "event",
            Column::Timestamp => "timestamp",
            Column::EventProperty(key) => return write!(f, "the event property '{key}'"),
            Column::Shown(name) => name,
            Column::CohortId => "cohort_id",
            Column::Aggregate(Aggregate::Count) => "count()",
            Column::Aggregate(Aggregate::First) => "min(timestamp)",
            Column::Aggregate(Aggregate::Last) => "max(timestamp)",
        })
    }
}

impl Scope {
    /// The column that an expression names by itself.
    pub fn column(&self, expr: &Expr) -> Result<Option<Column>, FilterError> {
        chain(expr).map(|names| self.named(&names)).transpose()
    }

    pub fn named(&self, names: &[String]) -> Result<Column, FilterError> {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        let own = |name: &str| name == self.name || self.alias.as_deref() == Some(name);
        if names.len() > 1 && own(names[0]) {
            names.remove(0);
        }
        Ok(match (self.table, names.as_slice()) {
            (Table::Persons, ["id"]) => Column::Person,
            (Table::Persons, ["created_at"]) => Column::PersonCreatedAt,
            (Table::Persons, ["properties", key]) => Column::PersonProperty((*key).to_owned()),
            (Table::Events, ["person_id"] | ["person", "id"]) => Column::Person,
            (Table::Events, ["person", "created_at"]) => Column::PersonCreatedAt,
            (Table::Events, ["person", "properties", key]) => {
                Column::PersonProperty((*key).to_owned())
            }
            (Table::Events, ["event"]) => Column::Event,
            (Table::Events, ["timestamp"]) => Column::Timestamp,
            (Table::Events, ["properties", key]) => Column::EventProperty((*key).to_owned()),
            (Table::Events, ["distinct_id"]) => Column::Shown("distinct_id"),
            (Table::Events, ["uuid"]) => Column::Shown("uuid"),
            (Table::Persons | Table::Events, ["properties"]) => Column::Shown("properties"),
            (Table::Members, ["person_id"]) => Column::Person,
            (Table::Members, ["cohort_id"]) => Column::CohortId,
            (Table::Persons, ["properties", ..])
            | (Table::Events, ["properties" | "person", ..])
                if names.len() > 2 =>
            {
                return Err(unsupported(format!(
                    "the path {} inside a property",
                    names.join(".")
                )));
            }
            _ => return Err(self.no_column(&names.join("."))),
        })
    }

    fn no_column(&self, name: &str) -> FilterError {
        let known = match self.table {
            Table::Persons => "id, created_at, properties",
            Table::Events => "person_id, event, timestamp, distinct_id, uuid, properties, person",
            Table::Members => "person_id, cohort_id",
        };
        let sentence = format!(
            "there is no column '{name}' in {}; expected one of {known}",
            self.name
        );
        FilterError::input(PATH, sentence)
    }
}

/// Names joined by dots or brackets, such as `person.properties['plan']`.
fn chain(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Identifier(name) => Some(vec![name.value.clone()]),
        Expr::CompoundIdentifier(names) => {
            Some(names.iter().map(|name| name.value.clone()).collect())
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let mut names = chain(root)?;
            for access in access_chain {
                match access {
                    AccessExpr::Dot(Expr::Identifier(name)) => names.push(name.value.clone()),
                    AccessExpr::Subscript(Subscript::Index { index }) => {
                        names.push(text_of(index)?);
                    }
                    _ => return None,
                }
            }
            Some(names)
        }
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => unescaped(text).ok(),
            _ => None,
        },
        _ => None,
    }
}

impl Column {
    /// Whether a list of values can be looked for in it at once.
    pub fn takes_lists(&self) -> bool {
        self.is_property()
            || matches!(
                self,
                Column::Event | Column::CohortId | Column::Aggregate(Aggregate::Count)
            )
    }

    /// Whether a value is of a sort that it holds.
    pub fn takes(&self, value: &Value) -> bool {
        match self {
            Column::PersonProperty(_) | Column::EventProperty(_) => true,
            Column::Event => value.is_string(),
            Column::CohortId => value.is_i64() || value.is_string(),
            Column::Aggregate(Aggregate::Count) => value.is_i64(),
            _ => false,
        }
    }
}
