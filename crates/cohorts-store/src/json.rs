//! JSON columns as text, so that rows are read and written without parsing.

use std::collections::BTreeMap;
use std::io::Write;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types;
use serde_json::value::RawValue;

/// The text of a JSON value, for columns of type `json` and `jsonb`.
#[derive(Clone, Debug, PartialEq, Eq, FromSqlRow, AsExpression)]
#[diesel(sql_type = sql_types::Json)]
#[diesel(sql_type = sql_types::Jsonb)]
pub struct JsonText(
    /// The text. Only JSON can be written.
    pub String,
);

impl JsonText {
    /// The text of `value`.
    pub fn of(value: &serde_json::Value) -> Self {
        Self(value.to_string())
    }

    /// Parses the text. JSON that Postgres accepts and this cannot represent, such as a number out of range, is null.
    pub fn parse(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The names of the members of an object; empty for any other value.
    pub fn member_names(&self) -> Vec<String> {
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(&self.0).unwrap_or_default();
        members.into_keys().collect()
    }
}

impl FromSql<sql_types::Json, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(std::str::from_utf8(value.as_bytes())?.to_owned()))
    }
}

impl FromSql<sql_types::Jsonb, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        match value.as_bytes().split_first() {
            Some((1, text)) => Ok(Self(std::str::from_utf8(text)?.to_owned())),
            _ => Err("unknown version of a jsonb value".into()),
        }
    }
}

impl ToSql<sql_types::Json, Pg> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<sql_types::Jsonb, Pg> for JsonText {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[1])?;
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}
