//! Removes the builders of types that callers only read.
//!
//! typify writes a builder for every struct. A caller builds the types of requests, so only they keep theirs.

use std::collections::{HashMap, HashSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Field, File, ImplItem, Item, ItemImpl};

use super::documentation::type_name;
use super::{module, types_module};
use crate::contract::Contract;
use crate::naming::pascal;
use crate::reader::reference;
use crate::responses::JSON;

pub fn keep_for_requests(code: &mut File, contract: &Contract) {
    let Some(items) = types_module(code) else {
        return;
    };
    let built = reachable(items, bodies(contract));
    items.retain_mut(|item| match item {
        Item::Impl(item) => built.contains(&type_name(&item.self_ty)) || !loses_builder(item),
        _ => true,
    });
    if let Some(builders) = module(items, "builder") {
        builders.retain(|item| match item {
            Item::Struct(item) => built.contains(&item.ident.to_string()),
            Item::Impl(item) => built.contains(&type_name(&item.self_ty)),
            _ => true,
        });
    }
}

/// The names of the types of bodies.
fn bodies(contract: &Contract) -> Vec<String> {
    let paths = &contract.document.root["paths"];
    let bodies = contract.operations.iter().map(|operation| {
        let body = &paths[&operation.path][&operation.method]["requestBody"];
        match reference(&body["content"][JSON]["schema"]) {
            Some(schema) => pascal(schema),
            // progenitor's name for a schema that is no component.
            None => pascal(&format!("{}_body", operation.id)),
        }
    });
    bodies.collect()
}

/// Removes the function `builder`. Returns whether no other function is left.
fn loses_builder(item: &mut ItemImpl) -> bool {
    let count = item.items.len();
    item.items
        .retain(|member| !matches!(member, ImplItem::Fn(member) if member.sig.ident == "builder"));
    item.trait_.is_none() && count > 0 && item.items.is_empty()
}

/// The names of `roots`, and of the types inside them.
fn reachable(items: &[Item], roots: Vec<String>) -> HashSet<String> {
    let parts: HashMap<String, Vec<String>> = items.iter().filter_map(parts).collect();
    let mut found = HashSet::new();
    let mut open = roots;
    while let Some(name) = open.pop() {
        if let Some(names) = parts.get(&name)
            && found.insert(name)
        {
            open.extend(names.iter().cloned());
        }
    }
    found
}

/// The name of a type, and the identifiers in the types of its fields.
fn parts(item: &Item) -> Option<(String, Vec<String>)> {
    let (name, fields): (_, Vec<&Field>) = match item {
        Item::Struct(item) => (&item.ident, item.fields.iter().collect()),
        Item::Enum(item) => {
            let variants = item.variants.iter();
            let fields = variants.flat_map(|variant| variant.fields.iter());
            (&item.ident, fields.collect())
        }
        _ => return None,
    };
    let mut names = Vec::new();
    for field in fields {
        identifiers(field.ty.to_token_stream(), &mut names);
    }
    Some((name.to_string(), names))
}

fn identifiers(tokens: TokenStream, names: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => names.push(name.to_string()),
            TokenTree::Group(group) => identifiers(group.stream(), names),
            _ => (),
        }
    }
}
