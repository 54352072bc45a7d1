//! Opens the enums that responses contain, so that a value of a later version of the service is readable.
//!
//! In the projection, an open enum has one more value, [`MARK`]. After progenitor, its variant becomes one for all other
//! texts. An enum that selects an alternative of a choice stays closed, because the choice has the variant `Other`.

use std::collections::{BTreeSet, HashSet, VecDeque};

use quote::quote;
use serde_json::{Value, json};
use syn::{File, Item, ItemEnum, ItemImpl};

use super::documentation::{renamed, type_name};
use super::types_module;
use crate::contract::Contract;
use crate::model::Choice;
use crate::naming::other_variant;
use crate::reader::{object, reference};
use crate::schemas::{only_part, open_choices};
use crate::types::open_enumeration;

/// The value that marks an open enum.
const MARK: &str = "x-open";

/// Rewrites each `anyOf` of known texts and any text into a marked enum.
///
/// A nullable enum that is a component becomes an enum with nullable references, which typify reads as an `Option`.
pub fn mark_lists(document: &mut Value) {
    let root = document.clone();
    mark_lists_in(&root, document);
    let mut nullable = HashSet::new();
    for (name, schema) in object(&root["components"]["schemas"]) {
        if open_choices(&root, schema).is_some() {
            let schema = &mut document["components"]["schemas"][name];
            if take_null(schema) {
                nullable.insert(name.clone());
            }
        }
    }
    refer_to_nullable(document, &nullable);
}

/// Makes an enum not nullable. Returns whether it was.
fn take_null(schema: &mut Value) -> bool {
    let Some(schema) = schema.as_object_mut() else {
        return false;
    };
    let is_nullable = schema.remove("nullable") == Some(true.into());
    let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) else {
        return is_nullable;
    };
    let count = values.len();
    values.retain(|value| !value.is_null());
    is_nullable || values.len() < count
}

/// Makes the references to the components `names` nullable.
fn refer_to_nullable(value: &mut Value, names: &HashSet<String>) {
    let is_known = |schema: &Value| reference(schema).is_some_and(|name| names.contains(name));
    if is_known(value) {
        *value = json!({ "type": "string", "allOf": [value.take()], "nullable": true });
    } else if is_known(only_part(value)) {
        value["type"] = "string".into();
        value["nullable"] = true.into();
    } else {
        match value {
            Value::Array(items) => items
                .iter_mut()
                .for_each(|item| refer_to_nullable(item, names)),
            Value::Object(members) => members
                .values_mut()
                .for_each(|member| refer_to_nullable(member, names)),
            _ => (),
        }
    }
}

fn mark_lists_in(root: &Value, value: &mut Value) {
    let choices = open_choices(root, value).map(|(known, text)| {
        let nullable = [known, text, value].map(|schema| schema["nullable"] == true);
        (known["enum"].clone(), nullable.contains(&true))
    });
    if let (Some((known, nullable)), Some(schema)) = (choices, value.as_object_mut()) {
        schema.remove("anyOf");
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), known);
        schema.insert("nullable".to_owned(), nullable.into());
        mark(value);
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mark_lists_in(root, item)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| mark_lists_in(root, member)),
        _ => (),
    }
}

fn mark(schema: &mut Value) {
    if let Some(values) = schema["enum"].as_array_mut()
        && !values.iter().any(|value| value == MARK)
    {
        values.push(MARK.into());
    }
}

/// Marks the enums inside responses.
pub fn mark_responses(document: &mut Value, contract: &Contract) {
    let mut search = Search::new(document);
    let responses = contract
        .operations
        .iter()
        .flat_map(|operation| &operation.responses);
    for schema in responses.filter_map(|response| response.json_schema()) {
        search.add(schema, Role::Plain);
    }
    if let Some(envelope) = &contract.config.rules.envelope {
        search.add(envelope, Role::Plain);
    }
    for pointer in search.open_enums() {
        if let Some(schema) = document.pointer_mut(&pointer) {
            mark(schema);
        }
    }
}

/// What a schema is for the schema around it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Plain,
    /// An alternative of a choice. Its properties may select it.
    Alternative,
    /// A property of an alternative.
    Tag,
}

/// A search for the enums inside schemas.
struct Search<'a> {
    document: &'a Value,
    components: VecDeque<(String, Role)>,
    known: HashSet<(String, Role)>,
    open: BTreeSet<String>,
    closed: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn new(document: &'a Value) -> Self {
        Self {
            document,
            components: VecDeque::new(),
            known: HashSet::new(),
            open: BTreeSet::new(),
            closed: BTreeSet::new(),
        }
    }

    fn add(&mut self, component: &str, role: Role) {
        let component = (component.to_owned(), role);
        if self.known.insert(component.clone()) {
            self.components.push_back(component);
        }
    }

    /// The pointers to the enums that can be open.
    fn open_enums(mut self) -> Vec<String> {
        while let Some((component, role)) = self.components.pop_front() {
            let schema = &self.document["components"]["schemas"][&component];
            self.visit(schema, &format!("/components/schemas/{component}"), role);
        }
        self.open.difference(&self.closed).cloned().collect()
    }

    fn visit(&mut self, schema: &Value, pointer: &str, role: Role) {
        if let Some(component) = reference(schema) {
            return self.add(component, role);
        }
        let is_text = matches!(schema["type"].as_str(), None | Some("string"));
        if is_text && schema.get("enum").is_some() {
            match role {
                Role::Plain => self.open.insert(pointer.to_owned()),
                Role::Alternative | Role::Tag => self.closed.insert(pointer.to_owned()),
            };
        }
        let inner = match role {
            Role::Alternative => Role::Tag,
            Role::Plain | Role::Tag => Role::Plain,
        };
        for (name, property) in object(&schema["properties"]) {
            let name = name.replace('~', "~0").replace('/', "~1");
            self.visit(property, &format!("{pointer}/properties/{name}"), inner);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(part) = schema.get(key) {
                self.visit(part, &format!("{pointer}/{key}"), Role::Plain);
            }
        }
        for (key, role) in [
            ("allOf", role),
            ("oneOf", Role::Alternative),
            ("anyOf", Role::Alternative),
        ] {
            let parts = schema[key].as_array().into_iter().flatten();
            for (index, part) in parts.enumerate() {
                self.visit(part, &format!("{pointer}/{key}/{index}"), role);
            }
        }
    }
}

/// Replaces the marked enums, and what typify implements for them.
pub fn replace_marked(code: &mut File) {
    let Some(items) = types_module(code) else {
        return;
    };
    let mut names = HashSet::new();
    let mut replaced = Vec::with_capacity(items.len());
    for item in std::mem::take(items) {
        match item {
            Item::Enum(item) if let Some(choices) = choices(&item) => {
                names.insert(item.ident.to_string());
                replaced.extend(open_enum(&item, &choices));
            }
            Item::Impl(item) if is_replaced(&item, &names) => {}
            item => replaced.push(item),
        }
    }
    *items = replaced;
}

/// The values of a marked enum, without the mark.
fn choices(item: &ItemEnum) -> Option<Vec<Choice>> {
    let choices = item.variants.iter().map(|variant| {
        let rust = variant.ident.to_string();
        Choice {
            value: renamed(&variant.attrs).unwrap_or_else(|| rust.clone()),
            rust,
        }
    });
    let mut choices: Vec<_> = choices.collect();
    let count = choices.len();
    choices.retain(|choice| choice.value != MARK);
    (choices.len() < count).then_some(choices)
}

/// # Panics
///
/// Panics if the generated enum is not valid Rust, which is a fault of the generator.
fn open_enum(item: &ItemEnum, choices: &[Choice]) -> Vec<Item> {
    let docs = item
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("doc"));
    let other = other_variant(choices.iter().map(|choice| choice.rust.as_str()));
    let code = open_enumeration(&item.ident, &quote! { #(#docs)* }, choices, &other);
    let file: File = syn::parse2(code).expect("the generated enum is valid Rust");
    file.items
}

/// Whether typify's implementation for one of the enums `names`, which come first, has a substitute.
fn is_replaced(item: &ItemImpl, names: &HashSet<String>) -> bool {
    let is_default = item.trait_.as_ref().is_some_and(|(_, path, _)| {
        path.segments
            .last()
            .is_some_and(|segment| segment.ident == "Default")
    });
    !is_default && names.contains(&type_name(&item.self_ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enum_that_selects_an_alternative_stays_closed() {
        let words = json!({ "type": "string", "enum": ["a"] });
        let document = json!({ "components": { "schemas": {
            "Page": { "type": "object", "properties": {
                "state": words,
                "rows": { "type": "array", "items": { "oneOf": [
                    { "$ref": "#/components/schemas/Row" },
                    { "type": "object" },
                ] } },
                "first": { "nullable": true, "allOf": [{ "$ref": "#/components/schemas/Word" }] },
            } },
            "Row": { "type": "object", "properties": {
                "kind": words,
                "detail": { "type": "object", "properties": { "a/b": words } },
            } },
            "Word": words,
        } } });
        let mut search = Search::new(&document);
        search.add("Page", Role::Plain);
        let expected = [
            "/components/schemas/Page/properties/state",
            "/components/schemas/Row/properties/detail/properties/a~1b",
            "/components/schemas/Word",
        ];
        assert_eq!(search.open_enums(), expected);
    }
}
