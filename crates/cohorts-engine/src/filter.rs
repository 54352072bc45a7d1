//! The filter tree as types, and queries over the tree.
//!
//! Operators, kinds of behaviour and intervals are plain text here: any text may be stored, and
//! only the planner decides which of them can be calculated.
//!
//! The JSON Schema of a request is derived from these types, and their docs become its
//! descriptions; `schema.rs` adds the rules that the types cannot express.

mod schema;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::FilterError;
use crate::parse::{self, Mode};

pub use crate::parse::read_json;

/// The definition of a dynamic cohort.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::filter)]
pub struct Filter {
    /// The root group.
    #[serde(rename = "properties")]
    pub root: Group,
}

/// Criteria joined by AND or OR.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Group {
    /// How the values are joined.
    #[serde(rename = "type")]
    pub join: Join,
    /// Groups and leaves; a group may contain both.
    pub values: Vec<Node>,
}

/// How a group joins its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Join {
    /// Every value must hold.
    #[serde(rename = "AND")]
    And,
    /// At least one value must hold.
    #[serde(rename = "OR")]
    Or,
}

/// A value of a group.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Node {
    /// A nested group.
    Group(Group),
    /// One criterion.
    Leaf(Leaf),
}

/// One criterion.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Leaf {
    /// A test of one property of the person.
    Person(PersonLeaf),
    /// A test of a column of the person record; only `created_at` exists.
    #[schemars(transform = schema::created_at)]
    PersonMetadata(PersonLeaf),
    /// Membership of another cohort.
    Cohort(CohortLeaf),
    /// A test of the events of the person.
    Behavioral(Box<BehavioralLeaf>),
}

impl Leaf {
    /// Whether the criterion selects the complement: every person who does not satisfy it.
    pub fn negated(&self) -> bool {
        match self {
            Leaf::Person(leaf) | Leaf::PersonMetadata(leaf) => leaf.negation,
            Leaf::Cohort(leaf) => leaf.negation,
            Leaf::Behavioral(leaf) => leaf.negation,
        }
    }
}

/// A test of one person property.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::person_leaf)]
pub struct PersonLeaf {
    /// The name of a top-level property; dots have no special meaning.
    pub key: String,
    /// The operator. Absent only in filters converted from legacy groups, where it means `exact`.
    ///
    /// `regex` and `not_regex` take a pattern of RE2; one that cannot be read is an error
    /// (`invalid_regex`). `icontains` and the like compare the lower case of each letter. A value
    /// that is not a version matches no `semver_…` operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The value, or list of values, to compare with; `is_set` and `is_not_set` need none.
    ///
    /// A stored date is seconds since 1970 (milliseconds with 13 digits, a date `YYYYMMDD` with 8),
    /// or a date in ISO 8601, RFC 2822, `DD-MM-YYYY`, `DD/MM/YYYY` or `YYYY/MM/DD`. The calendar
    /// ends with 9999-12-31 in every time zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Whether to select the complement.
    #[serde(default)]
    #[schemars(with = "schema::Flag")]
    pub negation: bool,
}

/// Membership of another cohort.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::with_machine_fields)]
pub struct CohortLeaf {
    /// Always `id`.
    pub key: CohortKey,
    /// The id of the other cohort. If that cannot be calculated, this one fails with the same
    /// code, and the error names the path.
    #[schemars(with = "schema::WholeNumber")]
    pub value: i64,
    /// Whether to select the persons who are not members.
    #[serde(default)]
    #[schemars(with = "schema::Flag")]
    pub negation: bool,
}

/// The only key of a cohort leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum CohortKey {
    /// The cohort is identified by its id.
    #[serde(rename = "id")]
    Id,
}

/// A test of the events of a person within a time window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::with_machine_fields)]
pub struct BehavioralLeaf {
    /// An event name, or the id of an action.
    pub key: Name,
    /// The kind of behaviour, such as `performed_event`.
    pub value: String,
    /// `events` or `actions`.
    pub event_type: String,
    /// The comparison of a count: `exact`, `gt`, `gte`, `lt` or `lte`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The number to compare a count with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub operator_value: Option<i64>,
    /// The length of the window, or of one period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub time_value: Option<i64>,
    /// The unit of `time_value`: `hour`, `day`, `week`, `month` or `year`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_interval: Option<String>,
    /// The start of the window as a date, instead of `time_value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explicit_datetime: Option<String>,
    /// The end of the window as a date. Default: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explicit_datetime_to: Option<String>,
    /// The second event of a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_event: Option<Name>,
    /// `events` or `actions`, for `seq_event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_event_type: Option<String>,
    /// The longest time between the events of a sequence, or the length of the inner window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub seq_time_value: Option<i64>,
    /// The unit of `seq_time_value`, as for `time_interval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_time_interval: Option<String>,
    /// The number of periods to examine, counted back from yesterday.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub total_periods: Option<i64>,
    /// The number of periods that must qualify.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub min_periods: Option<i64>,
    /// Tests of the properties of `key`'s events; one event must satisfy all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_filters: Option<Vec<EventFilter>>,
    /// Whether to select the complement.
    #[serde(default)]
    #[schemars(with = "schema::Flag")]
    pub negation: bool,
}

/// An event name as text, or an action id as a number or as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Name {
    /// A number.
    #[schemars(extend("minimum" = i64::MIN, "maximum" = i64::MAX))]
    Number(i64),
    /// Text.
    Text(String),
}

impl Default for Name {
    fn default() -> Name {
        Name::Text(String::new())
    }
}

impl Name {
    /// The name as an event name.
    pub fn text(&self) -> String {
        match self {
            Name::Number(number) => number.to_string(),
            Name::Text(text) => text.clone(),
        }
    }

    /// The name as an action id; `None` if it is no number.
    pub fn id(&self) -> Option<i64> {
        match self {
            Name::Number(number) => Some(*number),
            Name::Text(text) => text.parse().ok(),
        }
    }
}

/// A test of one property of an event.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::event_filter)]
pub struct EventFilter {
    /// Always `event`.
    #[serde(rename = "type")]
    pub kind: EventFilterKind,
    /// The property name.
    pub key: String,
    /// The operator. Default: `exact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The value, or list of values, to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// The only supported kind of event filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventFilterKind {
    /// A property of the event.
    Event,
}

impl Filter {
    /// Parses `{"properties": {…}}` by the rules for requests: unknown keys are refused. PostHog's
    /// `filterTestAccounts` may be false or null.
    ///
    /// At most 64 levels of groups, 10,000 groups and leaves, 10,000 items in one list, 50,000 JSON
    /// objects, 500,000 JSON values, 1,000 bytes in the name of a property or an event, and 400 in
    /// an operator, a unit or a date.
    /// [`read_json`] checks the numbers of objects and values before it builds a tree.
    ///
    /// # Errors
    ///
    /// Fails with code `missing_properties` if there is no `properties` member, and with
    /// `invalid_input` if the tree is malformed or exceeds a limit. Operators, kinds of behaviour
    /// and windows are checked by [`plan`](crate::plan()), not here.
    ///
    /// ```
    /// use cohorts_engine::Filter;
    /// use serde_json::json;
    ///
    /// let leaf = json!({"type": "person", "key": "plan", "operator": "exact", "value": "pro"});
    /// let filter = Filter::parse(&json!({"properties": {"type": "OR", "values": [leaf]}}))?;
    /// assert_eq!(filter.leaves().len(), 1);
    ///
    /// let leaf = json!({"type": "person", "key": "plan"});
    /// let error = Filter::parse(&json!({"properties": {"type": "OR", "values": [leaf]}})).unwrap_err();
    /// assert_eq!((error.path.as_str(), error.code), ("properties.values[0]", "invalid_input"));
    /// # Ok::<(), cohorts_engine::FilterError>(())
    /// ```
    pub fn parse(filters: &Value) -> Result<Filter, FilterError> {
        parse::filter(filters, Mode::Write).map(|(filter, _)| filter)
    }

    /// The form to store and to return: members keep their order, null members are dropped,
    /// `negation` is added to leaves, and numeric text becomes a number where a number is
    /// expected. Normalising twice gives the same result as once.
    ///
    /// # Errors
    ///
    /// Fails like [`Filter::parse`].
    pub fn normalised(filters: &Value) -> Result<Value, FilterError> {
        parse::filter(filters, Mode::Write).map(|(_, wire)| wire)
    }

    /// Both [`Filter::parse`] and [`Filter::normalised`] in one pass.
    ///
    /// # Errors
    ///
    /// Fails like [`Filter::parse`].
    pub fn parse_and_normalise(filters: &Value) -> Result<(Filter, Value), FilterError> {
        parse::filter(filters, Mode::Write)
    }

    /// Parses a stored filter, or one converted from legacy groups, leniently: unknown keys are
    /// ignored, a missing operator means `exact`, a cohort leaf may have the operator `not_in`,
    /// and an empty `properties` object is a filter without criteria.
    ///
    /// # Errors
    ///
    /// Fails like [`Filter::parse`], but accepts the cases above.
    pub fn parse_stored(filters: &Value) -> Result<Filter, FilterError> {
        parse::filter(filters, Mode::Stored).map(|(filter, _)| filter)
    }

    /// The JSON Schema (2020-12) of a filter in a request, for editors.
    ///
    /// Two rules are not part of the schema: the limits of [`Filter::parse`], and that the day of
    /// a date must exist in the calendar.
    pub fn schema() -> Value {
        schemars::schema_for!(Filter).to_value()
    }

    /// Whether the filter has no criteria, and therefore no members.
    pub fn is_empty(&self) -> bool {
        self.root.values.is_empty()
    }

    /// All leaves, in document order.
    pub fn leaves(&self) -> Vec<&Leaf> {
        let mut leaves = Vec::new();
        collect_leaves(&self.root, &mut leaves);
        leaves
    }

    /// The ids of the cohorts in cohort leaves, without duplicates, in document order.
    pub fn cohort_references(&self) -> Vec<i64> {
        let mut seen = BTreeSet::new();
        let ids = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Leaf::Cohort(cohort) => Some(cohort.value),
            _ => None,
        });
        ids.filter(|id| seen.insert(*id)).collect()
    }

    /// The event names in the behavioural leaves. Events that only an action names are not
    /// included.
    pub fn event_names(&self) -> BTreeSet<String> {
        self.targets("events").map(|name| name.text()).collect()
    }

    /// The ids of the actions in the behavioural leaves.
    pub fn action_ids(&self) -> BTreeSet<i64> {
        self.targets("actions")
            .filter_map(|name| name.id())
            .collect()
    }

    /// The keys of the person leaves; the key `distinct_id` means the person's distinct ids.
    pub fn person_keys(&self) -> BTreeSet<String> {
        let keys = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Leaf::Person(person) => Some(person.key.clone()),
            _ => None,
        });
        keys.collect()
    }

    /// Whether the filter has a behavioural leaf.
    pub fn has_behavioral(&self) -> bool {
        let mut leaves = self.leaves().into_iter();
        leaves.any(|leaf| matches!(leaf, Leaf::Behavioral(_)))
    }

    /// Whether the members can change without any change of the data, as time passes.
    pub fn depends_on_time(&self) -> bool {
        self.leaves().into_iter().any(|leaf| match leaf {
            Leaf::Behavioral(_) => true,
            Leaf::Person(leaf) | Leaf::PersonMetadata(leaf) => {
                let operator = leaf.operator.as_deref().unwrap_or("exact");
                operator.starts_with("is_date_")
            }
            Leaf::Cohort(_) => false,
        })
    }

    fn targets<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a Name> {
        let behavioral = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Leaf::Behavioral(leaf) => Some(leaf),
            _ => None,
        });
        behavioral.flat_map(move |leaf| {
            let first = (leaf.event_type == event_type).then_some(&leaf.key);
            let second = leaf
                .seq_event
                .as_ref()
                .filter(|_| leaf.seq_event_type.as_deref() == Some(event_type));
            first.into_iter().chain(second)
        })
    }
}

fn collect_leaves<'a>(group: &'a Group, leaves: &mut Vec<&'a Leaf>) {
    for node in &group.values {
        match node {
            Node::Group(inner) => collect_leaves(inner, leaves),
            Node::Leaf(leaf) => leaves.push(leaf),
        }
    }
}

/// Refuses `filterTestAccounts` in unparsed filter JSON, unless it is false or null.
///
/// # Errors
///
/// Fails with code `invalid_input`.
pub fn check_test_accounts(filters: &Value) -> Result<(), FilterError> {
    parse::check_test_accounts(filters)
}

/// Whether unparsed filter JSON has any criteria.
///
/// The filter of a static cohort is validated only if it has.
pub fn has_criteria(filters: &Value) -> bool {
    let values = filters
        .get("properties")
        .and_then(|tree| tree.get("values"));
    values
        .and_then(Value::as_array)
        .is_some_and(|values| !values.is_empty())
}

#[cfg(test)]
mod tests;
