//! The tables of a SELECT and their columns.

use std::fmt;

use serde_json::Value;
use sqlparser::ast::{self, AccessExpr, Expr, Subscript};

use super::operand::unescaped;
use super::{PATH, unsupported};
use crate::FilterError;

/// A table; `Members` is either of the two membership tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Persons,
    Events,
    Members,
}

/// The table of one SELECT, which resolves names to columns.
#[derive(Clone, Debug)]
pub(super) struct SelectScope {
    pub table: Table,
    pub name: String,
    pub alias: Option<String>,
}

/// An aggregate over the events of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Count,
    /// The first instant.
    First,
    /// The last instant.
    Last,
    /// The sum of the numbers of a property.
    Sum(String),
    /// The average of the numbers of a property.
    Average(String),
    /// The number of different values of a property.
    Distinct(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SqlColumn {
    Person,
    PersonProperty(String),
    PersonCreatedAt,
    Event,
    Timestamp,
    EventProperty(String),
    /// May occur in the projection, but not in a condition.
    ProjectionOnly(&'static str),
    CohortId,
    Aggregate(Aggregate),
}

impl SqlColumn {
    pub fn is_property(&self) -> bool {
        matches!(
            self,
            SqlColumn::PersonProperty(_) | SqlColumn::EventProperty(_)
        )
    }

    /// Whether the values are instants.
    pub fn is_time(&self) -> bool {
        matches!(
            self,
            SqlColumn::PersonCreatedAt
                | SqlColumn::Timestamp
                | SqlColumn::Aggregate(Aggregate::First | Aggregate::Last)
        )
    }
}

impl fmt::Display for SqlColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SqlColumn::Person => "the person",
            SqlColumn::PersonProperty(key) => return write!(f, "the person property '{key}'"),
            SqlColumn::PersonCreatedAt => "created_at",
            SqlColumn::Event => "event",
            SqlColumn::Timestamp => "timestamp",
            SqlColumn::EventProperty(key) => return write!(f, "the event property '{key}'"),
            SqlColumn::ProjectionOnly(name) => name,
            SqlColumn::CohortId => "cohort_id",
            SqlColumn::Aggregate(Aggregate::Count) => "count()",
            SqlColumn::Aggregate(Aggregate::First) => "min(timestamp)",
            SqlColumn::Aggregate(Aggregate::Last) => "max(timestamp)",
            SqlColumn::Aggregate(Aggregate::Sum(key)) => {
                return write!(f, "the sum of the event property '{key}'");
            }
            SqlColumn::Aggregate(Aggregate::Average(key)) => {
                return write!(f, "the average of the event property '{key}'");
            }
            SqlColumn::Aggregate(Aggregate::Distinct(key)) => {
                return write!(f, "the number of values of the event property '{key}'");
            }
        })
    }
}

impl SelectScope {
    /// The column of an expression; `None` if the expression is no name.
    pub fn column(&self, expr: &Expr) -> Result<Option<SqlColumn>, FilterError> {
        chain(expr).map(|names| self.named(&names)).transpose()
    }

    pub fn named(&self, names: &[String]) -> Result<SqlColumn, FilterError> {
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        let is_table = |name: &str| name == self.name || self.alias.as_deref() == Some(name);
        if names.len() > 1 && is_table(names[0]) {
            names.remove(0);
        }
        Ok(match (self.table, names.as_slice()) {
            (Table::Persons, ["id"]) => SqlColumn::Person,
            (Table::Persons, ["created_at"]) => SqlColumn::PersonCreatedAt,
            (Table::Persons, ["properties", key]) => SqlColumn::PersonProperty((*key).to_owned()),
            (Table::Events, ["person_id"] | ["person", "id"]) => SqlColumn::Person,
            (Table::Events, ["person", "created_at"]) => SqlColumn::PersonCreatedAt,
            (Table::Events, ["person", "properties", key]) => {
                SqlColumn::PersonProperty((*key).to_owned())
            }
            (Table::Events, ["event"]) => SqlColumn::Event,
            (Table::Events, ["timestamp"]) => SqlColumn::Timestamp,
            (Table::Events, ["properties", key]) => SqlColumn::EventProperty((*key).to_owned()),
            (Table::Events, ["distinct_id"]) => SqlColumn::ProjectionOnly("distinct_id"),
            (Table::Events, ["uuid"]) => SqlColumn::ProjectionOnly("uuid"),
            (Table::Persons | Table::Events, ["properties"]) => {
                SqlColumn::ProjectionOnly("properties")
            }
            (Table::Members, ["person_id"]) => SqlColumn::Person,
            (Table::Members, ["cohort_id"]) => SqlColumn::CohortId,
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

/// The names of a path such as `person.properties['plan']`; `None` for other expressions.
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

impl SqlColumn {
    /// Whether IN with a list is one test of the column.
    pub fn takes_lists(&self) -> bool {
        self.is_property()
            || matches!(
                self,
                SqlColumn::Event
                    | SqlColumn::CohortId
                    | SqlColumn::Aggregate(Aggregate::Count | Aggregate::Distinct(_))
            )
    }

    /// Whether the column can be compared with `value`.
    pub fn takes(&self, value: &Value) -> bool {
        match self {
            SqlColumn::PersonProperty(_) | SqlColumn::EventProperty(_) => true,
            SqlColumn::Event => value.is_string(),
            SqlColumn::CohortId => value.is_i64() || value.is_string(),
            SqlColumn::Aggregate(Aggregate::Count | Aggregate::Distinct(_)) => value.is_i64(),
            SqlColumn::Aggregate(Aggregate::Sum(_) | Aggregate::Average(_)) => value.is_number(),
            _ => false,
        }
    }
}
