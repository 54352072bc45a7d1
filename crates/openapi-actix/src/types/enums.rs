//! Generates the enums of texts.
//!
//! A closed enum has no other values. An open enum has a last variant for them.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::model::{Choice, Enumeration, Item};
use crate::naming::ident;
use crate::print::{docs, paragraph};

pub fn enumeration(item: &Item, shape: &Enumeration) -> TokenStream {
    let name = ident(&item.name);
    let text = item
        .description
        .clone()
        .unwrap_or_else(|| format!("The values of `{}`.", item.name));
    let text = docs(&text);
    match &shape.other {
        Some(other) => open_enumeration(&name, &text, &shape.choices, &other.rust),
        None => closed_enumeration(&name, &text, &shape.choices),
    }
}

/// Generates the variants of an enum, and the arms that show a value.
fn variants(choices: &[Choice]) -> [Vec<TokenStream>; 2] {
    let variants = choices.iter().map(|Choice { value, rust }| {
        let (name, text) = (
            ident(rust),
            docs(&paragraph(&format!("The value `{value}`."))),
        );
        let rename = (rust != value).then(|| quote! { #[serde(rename = #value)] });
        quote! { #text #rename #name }
    });
    let shown = choices.iter().map(|Choice { value, rust }| {
        let name = ident(rust);
        quote! { Self::#name => f.write_str(#value) }
    });
    [variants.collect(), shown.collect()]
}

fn closed_enumeration(name: &Ident, text: &TokenStream, choices: &[Choice]) -> TokenStream {
    let [variants, shown] = variants(choices);
    let parsed = choices.iter().map(|Choice { value, rust }| {
        let name = ident(rust);
        quote! { #value => Ok(Self::#name) }
    });
    quote! {
        #text
        #[derive(::serde::Deserialize, ::serde::Serialize, Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum #name { #(#variants),* }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match *self { #(#shown),* }
            }
        }

        impl ::std::str::FromStr for #name {
            type Err = self::error::ConversionError;
            fn from_str(value: &str) -> ::std::result::Result<Self, self::error::ConversionError> {
                match value { #(#parsed,)* _ => Err("invalid value".into()) }
            }
        }

        impl ::std::convert::TryFrom<&str> for #name {
            type Error = self::error::ConversionError;
            fn try_from(value: &str) -> ::std::result::Result<Self, self::error::ConversionError> {
                value.parse()
            }
        }

        impl ::std::convert::TryFrom<::std::string::String> for #name {
            type Error = self::error::ConversionError;
            fn try_from(value: ::std::string::String) -> ::std::result::Result<Self, self::error::ConversionError> {
                value.parse()
            }
        }
    }
}

/// Generates an enum with the variant `other` for the texts that it does not list.
pub fn open_enumeration(
    name: &Ident,
    text: &TokenStream,
    choices: &[Choice],
    other: &str,
) -> TokenStream {
    let [variants, shown] = variants(choices);
    let other = ident(other);
    let read = choices.iter().map(|Choice { value, rust }| {
        let name = ident(rust);
        quote! { #value => Self::#name }
    });
    quote! {
        #text
        #[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum #name {
            #(#variants,)*
            /// A value that this version of the document does not list.
            #[serde(untagged)]
            #other(::std::string::String)
        }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                match self { #(#shown,)* Self::#other(value) => f.write_str(value) }
            }
        }

        impl ::std::convert::From<&str> for #name {
            fn from(value: &str) -> Self {
                match value { #(#read,)* _ => Self::#other(value.to_owned()) }
            }
        }

        impl ::std::convert::From<::std::string::String> for #name {
            fn from(value: ::std::string::String) -> Self {
                value.as_str().into()
            }
        }

        impl ::std::str::FromStr for #name {
            type Err = ::std::convert::Infallible;
            fn from_str(value: &str) -> ::std::result::Result<Self, ::std::convert::Infallible> {
                Ok(value.into())
            }
        }
    }
}

/// The error of a text that is not a value of an enum.
pub fn conversion_error() -> TokenStream {
    quote! {
        /// Error types.
        pub mod error {
            /// Error from a `TryFrom` or `FromStr` implementation.
            pub struct ConversionError(::std::borrow::Cow<'static, str>);
            impl ::std::error::Error for ConversionError {}
            impl ::std::fmt::Display for ConversionError {
                fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> Result<(), ::std::fmt::Error> {
                    ::std::fmt::Display::fmt(&self.0, f)
                }
            }
            impl ::std::fmt::Debug for ConversionError {
                fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> Result<(), ::std::fmt::Error> {
                    ::std::fmt::Debug::fmt(&self.0, f)
                }
            }
            impl From<&'static str> for ConversionError {
                fn from(value: &'static str) -> Self { Self(value.into()) }
            }
            impl From<String> for ConversionError {
                fn from(value: String) -> Self { Self(value.into()) }
            }
        }
    }
}
