//! What a caller decides about a cohort. A definition parses its criteria once, on first use.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use chrono::Utc;
use cohorts_engine::condition_type::ConditionFlags;
use cohorts_engine::delta;
use cohorts_engine::filter::has_criteria;
use cohorts_engine::legacy::filters_from_groups;
use cohorts_engine::{Filter, FilterError, Moment};
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::JsonText;
use crate::schema::cohorts;

/// The columns of `cohorts` that callers decide.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = cohorts, treat_none_as_null = true)]
pub struct DefinitionRow {
    /// The name; `None` if the caller gave none.
    pub name: Option<String>,
    /// The description; empty if the caller gave none.
    pub description: String,
    groups: JsonText,
    filters: Option<JsonText>,
    /// A query that fills a static cohort, or selects the members of a dynamic one.
    pub query: Option<JsonText>,
    /// Whether the cohort is deleted. It can be restored.
    pub deleted: bool,
    /// Whether the members are a list, and not calculated from criteria.
    pub is_static: bool,
    /// The type as PostHog names it.
    pub cohort_type: Option<String>,
}

/// A live dynamic cohort without a name and without criteria.
impl Default for DefinitionRow {
    fn default() -> Self {
        Self {
            name: None,
            description: String::new(),
            groups: JsonText("[]".to_owned()),
            filters: None,
            query: None,
            deleted: false,
            is_static: false,
            cohort_type: None,
        }
    }
}

/// Filters as JSON, together with the parsed form of this JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedFilters {
    /// The JSON to store.
    pub json: JsonText,
    /// The filter that [`Filter::parse_stored`] returns for `json`.
    pub filter: Filter,
}

/// A [`DefinitionRow`] with its parsed criteria.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    row: DefinitionRow,
    filter: OnceLock<Result<Filter, FilterError>>,
}

impl From<DefinitionRow> for Definition {
    fn from(row: DefinitionRow) -> Self {
        Self {
            row,
            filter: OnceLock::new(),
        }
    }
}

impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.row == other.row
    }
}

impl Deref for Definition {
    type Target = DefinitionRow;

    fn deref(&self) -> &DefinitionRow {
        &self.row
    }
}

/// The criteria are private to the row, so no change through this makes the parsed criteria stale.
impl DerefMut for Definition {
    fn deref_mut(&mut self) -> &mut DefinitionRow {
        &mut self.row
    }
}

impl<ST> Queryable<ST, Pg> for Definition
where
    DefinitionRow: Queryable<ST, Pg>,
{
    type Row = <DefinitionRow as Queryable<ST, Pg>>::Row;

    fn build(row: Self::Row) -> diesel::deserialize::Result<Self> {
        DefinitionRow::build(row).map(Self::from)
    }
}

impl Selectable<Pg> for Definition {
    type SelectExpression = <DefinitionRow as Selectable<Pg>>::SelectExpression;

    fn construct_selection() -> Self::SelectExpression {
        <DefinitionRow as Selectable<Pg>>::construct_selection()
    }
}

impl Definition {
    /// The columns to write.
    pub(crate) fn row(&self) -> &DefinitionRow {
        &self.row
    }

    /// The definition's columns, without the parsed criteria.
    pub fn into_row(self) -> DefinitionRow {
        self.row
    }

    /// Replaces the filters; `None` removes them.
    pub fn set_filters(&mut self, filters: Option<JsonText>) {
        self.row.filters = filters;
        self.filter = OnceLock::new();
    }

    /// Replaces the filters by filters that are parsed already; `None` removes them.
    pub fn set_parsed_filters(&mut self, filters: Option<ParsedFilters>) {
        let (json, filter) = filters
            .map(|filters| (filters.json, filters.filter))
            .unzip();
        self.set_filters(json);
        if let Some(filter) = filter {
            self.filter = OnceLock::from(Ok(filter));
        }
    }

    /// Replaces the legacy groups, a JSON list.
    pub fn set_groups(&mut self, groups: JsonText) {
        self.row.groups = groups;
        self.filter = OnceLock::new();
    }

    /// The parsed criteria.
    ///
    /// # Errors
    ///
    /// Fails if the criteria are not a filter, which only criteria from outside this service can be.
    pub fn filter(&self) -> Result<&Filter, FilterError> {
        let filter = self
            .filter
            .get_or_init(|| Filter::parse_stored(&self.criteria()?.parse()));
        filter.as_ref().map_err(Clone::clone)
    }

    /// The query that selects the members of a dynamic cohort. Criteria take precedence over a query.
    pub fn live_query(&self) -> Option<&JsonText> {
        let query = self.query.as_ref().filter(|_| !self.is_static)?;
        self.filter().is_ok_and(Filter::is_empty).then_some(query)
    }

    /// The filter or the query that selects the members of a dynamic cohort.
    ///
    /// # Errors
    ///
    /// Fails if the criteria are not a filter.
    pub fn rule(&self) -> Result<delta::Definition, FilterError> {
        match self.live_query() {
            Some(query) => Ok(delta::Definition::Query(query.parse())),
            None => self.filter().cloned().map(delta::Definition::Filter),
        }
    }

    /// The cohorts that the members of a dynamic cohort depend on directly. A static cohort has none, because its
    /// criteria are not evaluated again.
    pub fn cohort_references(&self) -> BTreeSet<i64> {
        let rule = (!self.is_static).then(|| self.rule().ok()).flatten();
        // The moment changes no reference.
        let now = Moment::utc(Utc::now().timestamp_micros());
        let ids = rule.map(|rule| rule.cohort_references(&now));
        ids.unwrap_or_default().into_iter().collect()
    }
}

impl DefinitionRow {
    /// The filters as they are stored; `None` if the caller gave none.
    pub fn filters(&self) -> Option<&JsonText> {
        self.filters.as_ref()
    }

    /// The legacy groups, a JSON list.
    pub fn groups(&self) -> &JsonText {
        &self.groups
    }

    /// The criteria as callers see them: the filters, else the tree that the legacy groups mean, else a tree without
    /// criteria.
    ///
    /// # Errors
    ///
    /// Fails if the legacy groups have no meaning as criteria.
    pub fn criteria(&self) -> Result<Cow<'_, JsonText>, FilterError> {
        match self.tree() {
            Some(filters) => Ok(Cow::Borrowed(filters)),
            None if self.groups.0 == "[]" => {
                Ok(Cow::Owned(JsonText(r#"{"properties":{}}"#.to_owned())))
            }
            None => filters_from_groups(&self.groups.parse())
                .map(|tree| Cow::Owned(JsonText::of(&tree))),
        }
    }

    /// The filters, unless they are an empty value.
    fn tree(&self) -> Option<&JsonText> {
        let is_tree = |filters: &&JsonText| !matches!(filters.0.as_str(), "{}" | "null");
        self.filters.as_ref().filter(is_tree)
    }

    /// The kinds of criteria in the filters; `None` if they have none. Criteria of legacy groups do not count, as in
    /// PostHog.
    pub fn condition_flags(&self) -> Option<ConditionFlags> {
        ConditionFlags::of(&self.tree()?.0)
    }

    /// Whether the filters have criteria.
    pub fn has_criteria(&self) -> bool {
        let filters = self.filters.as_ref().map(JsonText::parse);
        filters.is_some_and(|filters| has_criteria(&filters))
    }

    /// Whether criteria or a query select the members.
    pub fn selects_members(&self) -> bool {
        self.has_criteria() || self.query.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(value: &str) -> JsonText {
        JsonText(format!(
            r#"{{"properties": {{"type": "OR", "values": [{{"type": "person", "key": "plan", "operator": "exact", "value": "{value}"}}]}}}}"#
        ))
    }

    #[test]
    fn a_query_is_the_rule_of_a_dynamic_cohort_without_criteria() {
        let query =
            r#"{"kind": "HogQLQuery", "query": "SELECT id FROM persons WHERE id IN COHORT 7"}"#;
        let mut definition = Definition::from(DefinitionRow {
            query: Some(JsonText(query.to_owned())),
            ..DefinitionRow::default()
        });
        assert!(matches!(definition.rule(), Ok(delta::Definition::Query(_))));
        assert_eq!(Vec::from_iter(definition.cohort_references()), [7]);
        definition.set_filters(Some(filters("pro")));
        assert!(matches!(
            definition.rule(),
            Ok(delta::Definition::Filter(_))
        ));
        assert!(definition.cohort_references().is_empty());
        definition.set_filters(None);
        definition.is_static = true;
        assert_eq!(definition.live_query(), None);
        assert!(definition.cohort_references().is_empty());
    }

    #[test]
    fn the_parsed_criteria_follow_every_change_of_the_stored_ones() {
        let mut definition = Definition::default();
        let parsed = |definition: &Definition| format!("{:?}", definition.filter().unwrap());
        let empty = parsed(&definition);
        definition.set_filters(Some(filters("pro")));
        let pro = parsed(&definition);
        definition.name = Some("Pros".to_owned());
        assert_eq!(parsed(&definition), pro);
        definition.set_filters(Some(filters("free")));
        assert!(parsed(&definition) != pro && pro != empty);
        definition.set_filters(None);
        assert_eq!(parsed(&definition), empty);
    }

    #[test]
    fn parsed_filters_equal_the_stored_filters_after_parsing() {
        let sent = serde_json::json!({"properties": {"type": "AND", "values": [
            {"type": "cohort", "key": "id", "value": "7"},
            {"type": "behavioral", "key": "paid", "value": "performed_event", "event_type": "events",
             "time_value": "30", "time_interval": "day", "operator": null, "event_filters": [
                {"type": "event", "key": "plan", "operator": "exact", "value": ["pro"]}]},
        ]}});
        let (filter, normalised) = Filter::parse_and_normalise(&sent).unwrap();
        let mut definition = Definition::default();
        definition.set_parsed_filters(Some(ParsedFilters {
            json: JsonText::of(&normalised),
            filter,
        }));
        let mut stored = Definition::default();
        stored.set_filters(definition.filters().cloned());
        assert_eq!(definition.filter().unwrap(), stored.filter().unwrap());
    }
}
