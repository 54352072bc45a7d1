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

fn variants(choices: &[Choice]) -> impl Iterator<Item = TokenStream> {
    choices.iter().map(|Choice { value, rust }| {
        let (name, text) = (
            ident(rust),
            docs(&paragraph(&format!("The value `{value}`."))),
        );
        let rename = (rust != value).then(|| quote! { #[serde(rename = #value)] });
        quote! { #text #rename #name }
    })
}

/// Generates one arm of a `match` per value, from the variant and the value.
fn arms(
    choices: &[Choice],
    arm: fn(Ident, &str) -> TokenStream,
) -> impl Iterator<Item = TokenStream> {
    choices
        .iter()
        .map(move |choice| arm(ident(&choice.rust), &choice.value))
}

fn closed_enumeration(name: &Ident, text: &TokenStream, choices: &[Choice]) -> TokenStream {
    let variants = variants(choices);
    let shown = arms(
        choices,
        |name, value| quote! { Self::#name => f.write_str(#value) },
    );
    let parsed = arms(choices, |name, value| quote! { #value => Ok(Self::#name) });
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
    let other = ident(other);
    let variants = variants(choices);
    let texts = arms(choices, |name, value| quote! { Self::#name => #value });
    let read = arms(choices, |name, value| quote! { #value => Self::#name });
    quote! {
        #text
        #[derive(::serde::Deserialize, ::serde::Serialize, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum #name {
            #(#variants,)*
            /// A value that this version of the document does not list.
            #[serde(untagged)]
            #other(::std::string::String)
        }

        impl #name {
            /// Returns the value as text.
            pub fn as_str(&self) -> &str {
                match self { #(#texts,)* Self::#other(value) => value }
            }
        }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
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
