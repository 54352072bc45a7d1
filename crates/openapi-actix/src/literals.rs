//! Rust expressions for the default values of the document.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use serde_json::Value;

use crate::model::{Model, Shape, Type, TypeKind};
use crate::naming::ident;

/// Whether [`expression`] can express a default.
pub fn is_supported(model: &Model, r#type: &Type, value: &Value) -> bool {
    expression(model, r#type, value, &quote! {}).is_some()
}

/// Returns the expression for a value that is not null. `types` is the path of the module with the types.
pub fn expression(
    model: &Model,
    r#type: &Type,
    value: &Value,
    types: &TokenStream,
) -> Option<TokenStream> {
    match &r#type.kind {
        TypeKind::Text { .. } => {
            let text = value.as_str()?;
            Some(quote! { #text.to_owned() })
        }
        TypeKind::Word(words) => {
            let text = value
                .as_str()
                .filter(|text| words.iter().any(|word| word == text))?;
            Some(quote! { #text.to_owned() })
        }
        TypeKind::Boolean => {
            let flag = value.as_bool()?;
            Some(quote! { #flag })
        }
        TypeKind::Integer {
            bits,
            minimum,
            maximum,
        } => {
            let number = value.as_i64()?;
            let is_inside = minimum.is_none_or(|bound| number >= bound)
                && maximum.is_none_or(|bound| number <= bound);
            let literal = match bits {
                32 => Literal::i32_unsuffixed(i32::try_from(number).ok()?),
                _ => Literal::i64_unsuffixed(number),
            };
            is_inside.then(|| quote! { #literal })
        }
        TypeKind::Number { .. } => {
            let literal = Literal::f64_unsuffixed(value.as_f64()?);
            Some(quote! { #literal })
        }
        TypeKind::List { .. } if value.as_array()?.is_empty() => Some(quote! { Vec::new() }),
        TypeKind::List { item, .. } => {
            let items = value.as_array()?.iter();
            let items: Option<Vec<_>> = items
                .map(|value| expression(model, item, value, types))
                .collect();
            let items = items?;
            Some(quote! { vec![#(#items),*] })
        }
        TypeKind::Item(id) => {
            let item = model.items.get(*id)?;
            let Shape::Enum(shape) = &item.shape else {
                return None;
            };
            let (name, text) = (ident(&item.name), value.as_str()?);
            let mut choices = shape.choices.iter();
            if let Some(choice) = choices.find(|choice| choice.value == text) {
                let variant = ident(&choice.rust);
                return Some(quote! { #types #name::#variant });
            }
            let variant = ident(&shape.other.as_ref()?.rust);
            Some(quote! { #types #name::#variant(#text.to_owned()) })
        }
        _ => None,
    }
}
