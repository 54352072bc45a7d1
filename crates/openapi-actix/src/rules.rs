//! Generates a table of field rules for each object in a body. The runtime interprets the tables.
//!
//! The hand-written runtime of a project enforces a part of the constraints. Any other constraint is a finding.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use crate::contract::Contract;
use crate::findings::Collector;
use crate::model::{Field, ItemId, Limit, Shape, Struct, Type, TypeKind, Union};
use crate::naming::shouting;

/// Reports the bodies that the runtime cannot check.
pub fn lint(contract: &Contract, findings: &Collector) {
    tables_with(contract, findings);
}

/// Generates one static table for each object inside a body.
pub fn tables(contract: &Contract) -> Vec<TokenStream> {
    tables_with(contract, &Collector::default())
}

/// The name of the static table of an item.
pub fn table_name(item: &str) -> Ident {
    format_ident!("{}_FIELDS", shouting(item))
}

/// How unknown fields of a body are read, by the hand-written runtime.
pub fn unknown_fields(contract: &Contract, item: ItemId) -> TokenStream {
    let item = &contract.model.items[item];
    match &item.shape {
        Shape::Struct(Struct {
            ignored: Some(_), ..
        }) => {
            let names = ignored_name(&item.name);
            quote! { UnknownFields::NearRefused(#names) }
        }
        _ => quote! { UnknownFields::Ignored },
    }
}

/// The name of the static list of ignored fields.
fn ignored_name(item: &str) -> Ident {
    format_ident!("{}_IGNORED", shouting(item))
}

/// The name of the static rule of an item.
fn kind_name(item: &str) -> Ident {
    format_ident!("{}_KIND", shouting(item))
}

/// Whether an object has nothing but fields.
fn is_plain(shape: &Struct) -> bool {
    shape.rest.is_none()
        && !shape.closed
        && shape.min_properties.is_none()
        && shape.max_properties.is_none()
}

/// The rule of a type, for a body or a parameter.
pub fn kind(contract: &Contract, r#type: &Type) -> TokenStream {
    let findings = Collector::default();
    Rules::new(contract, &findings).kind(r#type, "")
}

fn tables_with(contract: &Contract, findings: &Collector) -> Vec<TokenStream> {
    let mut rules = Rules::new(contract, findings);
    for body in contract.typed_bodies() {
        match body.r#type.item() {
            Some(id) if contract.model.struct_of(&body.r#type).is_some() => {
                rules.lint_body(id);
                rules.require_table(id);
            }
            _ => drop(rules.kind(&body.r#type, "")),
        }
        if let Some(id) = body.form.as_ref().and_then(Type::item) {
            rules.require_table(id);
        }
    }
    let mut tables = Vec::new();
    while let Some(id) = rules.items.get(tables.len()).copied() {
        tables.push(rules.table(id));
    }
    tables
}

struct Rules<'a> {
    contract: &'a Contract<'a>,
    findings: &'a Collector,
    /// The items that need a table, in order of discovery.
    items: Vec<ItemId>,
}

impl<'a> Rules<'a> {
    fn new(contract: &'a Contract<'a>, findings: &'a Collector) -> Self {
        Self {
            contract,
            findings,
            items: Vec::new(),
        }
    }

    fn is_own(&self) -> bool {
        !self.contract.config.is_bundled()
    }

    fn require_table(&mut self, id: ItemId) {
        if !self.items.contains(&id) {
            self.items.push(id);
        }
    }

    /// Reports what a body of the hand-written runtime must not be.
    fn lint_body(&self, id: ItemId) {
        let item = &self.contract.model.items[id];
        let Shape::Struct(shape) = &item.shape else {
            return;
        };
        if self.is_own() && shape.closed {
            let message =
                "`additionalProperties: false` is wrong: unknown keys of a body are ignored";
            self.findings.report(&item.location, message);
        }
    }

    fn table(&mut self, id: ItemId) -> TokenStream {
        let contract = self.contract;
        let item = &contract.model.items[id];
        let table = table_name(&item.name);
        let mut fields = Vec::new();
        let shape = match &item.shape {
            Shape::Struct(shape) => shape,
            Shape::Union(shape) => {
                let (name, kind) = (kind_name(&item.name), self.union(shape, &item.location));
                return quote! { static #name: Kind = #kind; };
            }
            _ => return quote! {},
        };
        if self.is_own() {
            self.lint_own_struct(shape, &item.location);
        }
        for field in &shape.fields {
            let location = format!("{}.properties.{}", item.location, field.name);
            if field.always_sent {
                let message = "`x-always-sent` is only supported in responses";
                self.findings.report(&location, message);
            }
            if field.read_only {
                if field.required {
                    let message = "a `readOnly` property cannot be required in a body";
                    self.findings.report(&location, message);
                }
                continue;
            }
            fields.push(self.field(field, &location));
        }
        let ignored = shape.ignored.as_ref().map(|names| {
            let list = ignored_name(&item.name);
            quote! { static #list: &[&str] = &[#(#names),*]; }
        });
        let kind = (!is_plain(shape)).then(|| {
            let (name, kind) = (kind_name(&item.name), self.structure(shape, &table));
            quote! { static #name: Kind = #kind; }
        });
        quote! {
            static #table: &[Field] = &[#(#fields),*];
            #kind
            #ignored
        }
    }

    fn lint_own_struct(&self, shape: &Struct, location: &str) {
        if shape.rest.is_some() {
            let message =
                "no rule reads members that are not described; mark the object `x-raw-json: true`";
            self.findings.report(location, message);
        }
        for (name, length) in [
            ("minProperties", shape.min_properties),
            ("maxProperties", shape.max_properties),
        ] {
            if length.is_some() {
                self.findings
                    .report(location, format!("no rule enforces `{name}` in a body"));
            }
        }
    }

    fn field(&mut self, field: &Field, location: &str) -> TokenStream {
        let Field { name, required, .. } = field;
        let nullable = field.r#type.nullable || matches!(field.r#type.kind, TypeKind::Json);
        let nullable = nullable && (!self.is_own() || field.r#type.nullable);
        let kind = self.kind(&field.r#type, location);
        quote! { Field { name: #name, required: #required, nullable: #nullable, kind: #kind } }
    }

    fn kind(&mut self, r#type: &Type, location: &str) -> TokenStream {
        let plain = self.plain_kind(r#type, location);
        let limits: Vec<_> = r#type.limits.iter().map(limit).collect();
        if limits.is_empty() {
            return plain;
        }
        if self.is_own() {
            for limit in &r#type.limits {
                let message = match limit {
                    Limit::Format(format) => format!("no rule checks the format `{format}`"),
                    limit => format!("no rule enforces `{}` in a body", limit_name(limit)),
                };
                self.findings.report(location, message);
            }
            return plain;
        }
        quote! { Kind::Limited(&#plain, &[#(#limits),*]) }
    }

    fn plain_kind(&mut self, r#type: &Type, location: &str) -> TokenStream {
        match &r#type.kind {
            TypeKind::Json | TypeKind::RawJson => quote! { Kind::Json },
            TypeKind::Text {
                trim,
                min_length,
                max_length,
            } => {
                let min_length = Literal::u64_unsuffixed(*min_length);
                let max_length = option(max_length.map(Literal::u64_unsuffixed));
                quote! { Kind::Text { trim: #trim, min_length: #min_length, max_length: #max_length } }
            }
            TypeKind::Word(words) => quote! { Kind::Choice(&[#(#words),*]) },
            TypeKind::Uuid => quote! { Kind::Uuid },
            TypeKind::Date => self.bundled("date", quote! { Kind::Date }, location),
            TypeKind::Instant => quote! { Kind::Instant },
            TypeKind::Boolean => quote! { Kind::Boolean },
            TypeKind::Integer {
                minimum, maximum, ..
            } => {
                let [minimum, maximum] =
                    [minimum, maximum].map(|bound| option(bound.map(Literal::i64_unsuffixed)));
                quote! { Kind::Integer { minimum: #minimum, maximum: #maximum } }
            }
            TypeKind::Number { .. } => quote! { Kind::Number },
            TypeKind::List { item, max_items } => {
                let nullable =
                    item.nullable || (!self.is_own() && matches!(item.kind, TypeKind::Json));
                let item = self.kind(item, &format!("{location}.items"));
                let max_items = option(max_items.map(Literal::u64_unsuffixed));
                quote! { Kind::List { item: &#item, nullable: #nullable, max_items: #max_items } }
            }
            TypeKind::Map(value) => {
                let nullable = value.nullable || matches!(value.kind, TypeKind::Json);
                let value = self.kind(value, &format!("{location}.additionalProperties"));
                self.bundled(
                    "map",
                    quote! { Kind::Map { value: &#value, nullable: #nullable } },
                    location,
                )
            }
            TypeKind::Object => self.bundled("map", quote! { Kind::AnyObject }, location),
            TypeKind::Item(id) => self.item(*id, location),
        }
    }

    /// Reports a kind that only the bundled runtime reads.
    fn bundled(&self, name: &str, kind: TokenStream, location: &str) -> TokenStream {
        if self.is_own() {
            let message =
                format!("no rule can read a {name} from a body; mark it `x-raw-json: true`");
            self.findings.report(location, message);
        }
        kind
    }

    fn item(&mut self, id: ItemId, location: &str) -> TokenStream {
        let item = &self.contract.model.items[id];
        match &item.shape {
            Shape::Enum(shape) => {
                if let Some(other) = &shape.other {
                    return self.kind(&other.r#type, location);
                }
                let words = shape.choices.iter().map(|choice| &choice.value);
                quote! { Kind::Choice(&[#(#words),*]) }
            }
            Shape::Struct(shape) => {
                self.require_table(id);
                let (table, kind) = (table_name(&item.name), kind_name(&item.name));
                match is_plain(shape) || self.is_own() {
                    true => quote! { Kind::Object(&#table) },
                    false => quote! { Kind::Of(&#kind) },
                }
            }
            Shape::Union(_) => {
                self.require_table(id);
                let kind = kind_name(&item.name);
                self.bundled("choice of schemas", quote! { Kind::Of(&#kind) }, location)
            }
            Shape::Pending => quote! { Kind::Json },
        }
    }

    /// The rule of an object with more than fields.
    fn structure(&mut self, shape: &Struct, table: &Ident) -> TokenStream {
        let rest = match &shape.rest {
            Some(rest) => {
                let kind = self.kind(rest, "");
                quote! { Rest::Of(&#kind) }
            }
            None if shape.closed => quote! { Rest::Forbidden },
            None => quote! { Rest::Ignored },
        };
        let limits = [
            shape.min_properties.map(Limit::MinProperties),
            shape.max_properties.map(Limit::MaxProperties),
        ];
        let limits: Vec<_> = limits.iter().flatten().map(limit).collect();
        let object = quote! { Kind::ObjectWith(&#table, #rest) };
        match limits.is_empty() {
            true => object,
            false => quote! { Kind::Limited(&#object, &[#(#limits),*]) },
        }
    }

    fn union(&mut self, shape: &Union, location: &str) -> TokenStream {
        let mut kinds = Vec::new();
        for alternative in &shape.alternatives {
            let kind = self.kind(&alternative.r#type, location);
            let tags = &alternative.tags;
            kinds.push(match &shape.tag {
                Some(_) => quote! { (&[#(#tags),*], #kind) },
                None => kind,
            });
        }
        match &shape.tag {
            Some(tag) => quote! { Kind::Tagged { tag: #tag, alternatives: &[#(#kinds),*] } },
            None => {
                let exclusive = shape.exclusive;
                quote! { Kind::Union { exclusive: #exclusive, alternatives: &[#(#kinds),*] } }
            }
        }
    }
}

fn limit(limit: &Limit) -> TokenStream {
    match limit {
        Limit::Pattern(pattern) | Limit::Format(pattern) => quote! { Limit::Pattern(#pattern) },
        Limit::Minimum { bound, exclusive } => {
            let bound = Literal::f64_suffixed(*bound);
            quote! { Limit::Minimum { bound: #bound, exclusive: #exclusive } }
        }
        Limit::Maximum { bound, exclusive } => {
            let bound = Literal::f64_suffixed(*bound);
            quote! { Limit::Maximum { bound: #bound, exclusive: #exclusive } }
        }
        Limit::MultipleOf(step) => {
            let step = Literal::f64_suffixed(*step);
            quote! { Limit::MultipleOf(#step) }
        }
        Limit::OneOf(numbers) => {
            let numbers = numbers
                .iter()
                .map(|number| Literal::i64_unsuffixed(*number));
            quote! { Limit::OneOf(&[#(#numbers),*]) }
        }
        Limit::MinItems(count) => length(quote! { MinItems }, *count),
        Limit::UniqueItems => quote! { Limit::UniqueItems },
        Limit::MinProperties(count) => length(quote! { MinProperties }, *count),
        Limit::MaxProperties(count) => length(quote! { MaxProperties }, *count),
    }
}

fn length(name: TokenStream, count: u64) -> TokenStream {
    let count = Literal::u64_unsuffixed(count);
    quote! { Limit::#name(#count) }
}

fn limit_name(limit: &Limit) -> &'static str {
    match limit {
        Limit::Pattern(_) => "pattern",
        Limit::Format(_) => "format",
        Limit::Minimum { .. } => "minimum",
        Limit::Maximum { .. } => "maximum",
        Limit::MultipleOf(_) => "multipleOf",
        Limit::OneOf(_) => "enum",
        Limit::MinItems(_) => "minItems",
        Limit::UniqueItems => "uniqueItems",
        Limit::MinProperties(_) => "minProperties",
        Limit::MaxProperties(_) => "maxProperties",
    }
}

/// Generates `Some(literal)` or `None`.
pub fn option(literal: Option<Literal>) -> TokenStream {
    match literal {
        Some(literal) => quote! { Some(#literal) },
        None => quote! { None },
    }
}
