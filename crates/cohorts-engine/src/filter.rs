//! The filter tree as types, and what a tree reads.
//! Operators, kinds and intervals stay text here: any text may be stored, and only the plan
//! decides which of them can be calculated.
//!
//! The JSON Schema that is derived from these types is that of the form in which a filter may be
//! sent; `schema.rs` adds what the types cannot say.

mod schema;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::FilterError;
use crate::parse::{self, Mode};

/// The definition of a dynamic cohort.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Filter {
    /// The outermost group of criteria.
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
    /// Groups and leaves, in any mixture.
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
    /// A property of the person.
    Person(PersonLeaf),
    /// A column of the person record; only `created_at` exists.
    #[schemars(transform = schema::created_at)]
    PersonMetadata(PersonLeaf),
    /// Membership of another cohort.
    Cohort(CohortLeaf),
    /// What the person did.
    Behavioral(Box<BehavioralLeaf>),
}

impl Leaf {
    /// Whether the criterion stands for its complement.
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
    /// The property name, taken as a whole: dots have no meaning in it.
    pub key: String,
    /// Absent only in trees made from legacy groups, where it means `exact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What the property is compared with; `is_set` and `is_not_set` need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Whether the complement is meant.
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
    /// The id of the other cohort.
    #[schemars(with = "schema::WholeNumber")]
    pub value: i64,
    /// Whether non-membership is meant.
    #[serde(default)]
    #[schemars(with = "schema::Flag")]
    pub negation: bool,
}

/// The only key of a cohort leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum CohortKey {
    /// The other cohort is named by its id.
    #[serde(rename = "id")]
    Id,
}

/// A test of what a person did, and when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, transform = schema::with_machine_fields)]
pub struct BehavioralLeaf {
    /// An event name, or the id of an action.
    pub key: Name,
    /// The kind of behaviour, such as `performed_event`.
    pub value: String,
    /// `events` or `actions`.
    pub event_type: String,
    /// How a count is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What a count is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub operator_value: Option<i64>,
    /// The length of the window, or of one period.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub time_value: Option<i64>,
    /// The unit of `time_value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_interval: Option<String>,
    /// The start of the window as a date, in place of `time_value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explicit_datetime: Option<String>,
    /// The end of the window as a date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explicit_datetime_to: Option<String>,
    /// The second event of a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_event: Option<Name>,
    /// `events` or `actions`, for `seq_event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_event_type: Option<String>,
    /// The longest way between the events of a sequence, or the inner window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub seq_time_value: Option<i64>,
    /// The unit of `seq_time_value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_time_interval: Option<String>,
    /// How many periods are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub total_periods: Option<i64>,
    /// How many of them must qualify.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<schema::WholeNumber>")]
    pub min_periods: Option<i64>,
    /// What must hold for the event itself, all of it for the same event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_filters: Option<Vec<EventFilter>>,
    /// Whether the complement is meant.
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

    /// The name as an action id, where it is one.
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
    /// Absent means `exact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What the property is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// The only kind of event filter that can be calculated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventFilterKind {
    /// A property of the event.
    Event,
}

impl Filter {
    /// Reads `{"properties": {…}}` by the rules for writing: what is refused here must not be
    /// stored.
    pub fn parse(filters: &Value) -> Result<Filter, FilterError> {
        parse::filter(filters, Mode::Write).map(|(filter, _)| filter)
    }

    /// The form to store and to echo: members in the order sent, null members dropped,
    /// `negation` added to leaves and numeric text turned into numbers.
    pub fn normalised(filters: &Value) -> Result<Value, FilterError> {
        parse::filter(filters, Mode::Write).map(|(_, wire)| wire)
    }

    /// [`Filter::parse`] and [`Filter::normalised`] in one pass.
    /// [`Filter::parse_stored`] returns the same filter for the normalised form.
    pub fn parse_and_normalise(filters: &Value) -> Result<(Filter, Value), FilterError> {
        parse::filter(filters, Mode::Write)
    }

    /// Reads what is stored already, or was made from legacy groups: unknown keys are passed
    /// over, a missing operator means `exact`, a cohort leaf may say `not_in`, and an empty
    /// `properties` object is a filter without criteria.
    pub fn parse_stored(filters: &Value) -> Result<Filter, FilterError> {
        parse::filter(filters, Mode::Stored).map(|(filter, _)| filter)
    }

    /// The JSON Schema of a filter as it may be sent, for editors. Beside it there are bounds on
    /// depth, number and length, and a date must exist.
    pub fn schema() -> Value {
        schemars::schema_for!(Filter).to_value()
    }

    /// Whether there are no criteria, so that nobody is a member.
    pub fn is_empty(&self) -> bool {
        self.root.values.is_empty()
    }

    /// Every leaf, in the order written.
    pub fn leaves(&self) -> Vec<&Leaf> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }

    /// The cohorts this filter names, each once, in the order written.
    pub fn cohort_references(&self) -> Vec<i64> {
        let mut seen = BTreeSet::new();
        let ids = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Leaf::Cohort(cohort) => Some(cohort.value),
            _ => None,
        });
        ids.filter(|id| seen.insert(*id)).collect()
    }

    /// The names of all events this filter reads; the events of its actions are not among them.
    pub fn event_names(&self) -> BTreeSet<String> {
        self.targets("events").map(|name| name.text()).collect()
    }

    /// The actions this filter reads.
    pub fn action_ids(&self) -> BTreeSet<i64> {
        self.targets("actions")
            .filter_map(|name| name.id())
            .collect()
    }

    /// The person properties this filter reads; `distinct_id` stands for the distinct ids.
    pub fn person_keys(&self) -> BTreeSet<String> {
        let keys = self.leaves().into_iter().filter_map(|leaf| match leaf {
            Leaf::Person(person) => Some(person.key.clone()),
            _ => None,
        });
        keys.collect()
    }

    /// Whether any criterion is about events.
    pub fn has_behavioral(&self) -> bool {
        let mut leaves = self.leaves().into_iter();
        leaves.any(|leaf| matches!(leaf, Leaf::Behavioral(_)))
    }

    /// Whether members may change by the passing of time alone.
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

fn collect<'a>(group: &'a Group, found: &mut Vec<&'a Leaf>) {
    for node in &group.values {
        match node {
            Node::Group(inner) => collect(inner, found),
            Node::Leaf(leaf) => found.push(leaf),
        }
    }
}

/// Whether a raw filter holds any criteria at all; asked of static cohorts, whose filter is
/// checked only then.
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
