//! Schemas of text, numbers and enums.

use serde_json::Value;

use super::{Place, Schemas};
use crate::model::{Choice, Enumeration, Limit, OtherText, Shape, Type, TypeKind};
use crate::naming::{self, Namespace};

impl Schemas<'_> {
    pub(super) fn string(
        &mut self,
        schema: &Value,
        place: &Place,
        component: Option<&str>,
    ) -> Type {
        if schema.get("enum").is_some() {
            return self.choices(schema, place, component);
        }
        let kind = match self.reader.text(schema, "format", &place.location) {
            Some("date-time") => TypeKind::Instant,
            Some("date") => TypeKind::Date,
            Some("uuid") => TypeKind::Uuid,
            Some("binary") => {
                let message = "`binary` is only supported for the files of a multipart body, and for bodies that are not JSON";
                self.report(place, message);
                TypeKind::Json
            }
            // The bundled runtime checks no other format; they inform readers.
            _ => return self.plain_text(schema, place),
        };
        self.allow_structure(schema, &["format"], place);
        Type::new(kind)
    }

    pub(super) fn plain_text(&self, schema: &Value, place: &Place) -> Type {
        let allowed = ["format", "minLength", "maxLength", "pattern", "x-trim"];
        self.allow_structure(schema, &allowed, place);
        let reader = self.reader;
        let location = &place.location;
        let mut r#type = Type::new(TypeKind::Text {
            trim: match schema.get("x-trim") {
                Some(_) => reader.flag(schema, "x-trim", location),
                // The hand-written runtime trims text, as its API does.
                None => !reader.config.is_bundled(),
            },
            min_length: reader.length(schema, "minLength", location).unwrap_or(0),
            max_length: reader.length(schema, "maxLength", location),
        });
        let format = reader.text(schema, "format", location);
        let format = format.filter(|format| !["uri", "email"].contains(format));
        if let Some(format) = format.filter(|_| !reader.config.is_bundled()) {
            r#type.limits.push(Limit::Format(format.to_owned()));
        }
        if let Some(pattern) = reader.text(schema, "pattern", location) {
            if let Err(message) = check_pattern(pattern) {
                reader.report(location, message);
            }
            r#type.limits.push(Limit::Pattern(pattern.to_owned()));
        }
        r#type
    }

    fn choices(&mut self, schema: &Value, place: &Place, component: Option<&str>) -> Type {
        self.allow_structure(schema, &["enum", "format"], place);
        let words = self.words(schema, place);
        let has_null = schema["enum"]
            .as_array()
            .is_some_and(|list| list.contains(&Value::Null));
        let mut r#type = if words.iter().any(String::is_empty) {
            Type::new(TypeKind::Word(words))
        } else {
            self.item(schema, place, component, |schemas, place| {
                Shape::Enum(Enumeration {
                    choices: schemas.variants(words, place),
                    other: None,
                })
            })
        };
        r#type.nullable = has_null;
        r#type
    }

    /// Reads an open enum: `anyOf` of an enum, `known`, and any text.
    pub(super) fn open_choices(
        &mut self,
        schema: &Value,
        known: &Value,
        text: &Value,
        place: &Place,
        component: Option<&str>,
    ) -> Type {
        self.reader
            .allow_keys(known, &[crate::keys::SCHEMA], &place.location);
        self.allow_structure(known, &["enum", "format"], place);
        let mut words = self.words(known, place);
        // It has no variant name, and is read as another text.
        words.retain(|word| !word.is_empty());
        let has_null = known["enum"]
            .as_array()
            .is_some_and(|list| list.contains(&Value::Null));
        let mut r#type = self.item(schema, place, component, |schemas, place| {
            let choices = schemas.variants(words, place);
            let other = OtherText {
                rust: naming::other_variant(choices.iter().map(|choice| choice.rust.as_str())),
                r#type: schemas.plain_text(text, place),
            };
            Shape::Enum(Enumeration {
                choices,
                other: Some(other),
            })
        });
        r#type.nullable = has_null;
        for schema in [known, text] {
            r#type.nullable |= self.reader.flag(schema, "nullable", &place.location);
        }
        r#type
    }

    fn words(&self, schema: &Value, place: &Place) -> Vec<String> {
        let list = self.reader.list(schema, "enum", &place.location);
        let values = list.iter().filter(|value| !value.is_null());
        let words: Vec<_> = values.clone().filter_map(Value::as_str).collect();
        if words.is_empty() || words.len() < values.count() {
            self.report(place, "`enum` must be a list of at least one text");
        }
        words.into_iter().map(str::to_owned).collect()
    }

    fn variants(&self, words: Vec<String>, place: &Place) -> Vec<Choice> {
        let mut names = Namespace::default();
        let variant = |value: String| {
            let rust = naming::variant(&value);
            let location = format!("{}.enum", place.location);
            names.claim(self.reader.findings, &rust, &value, &location);
            Choice { value, rust }
        };
        words.into_iter().map(variant).collect()
    }

    pub(super) fn integer(&self, schema: &Value, place: &Place) -> Type {
        let allowed = [
            "format",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "enum",
        ];
        self.allow_structure(schema, &allowed, place);
        self.lint_exclusive(schema, place);
        let location = &place.location;
        let is_small = self.reader.text(schema, "format", location) == Some("int32");
        let bound = |name: &str, exclusive: &str, step: i64| {
            let bound = self.integer_bound(schema, name, place)?;
            let exclusive = self.reader.flag(schema, exclusive, location);
            Some(if exclusive {
                bound.saturating_add(step)
            } else {
                bound
            })
        };
        let mut minimum = bound("minimum", "exclusiveMinimum", 1);
        let mut maximum = bound("maximum", "exclusiveMaximum", -1);
        if is_small {
            minimum = Some(
                minimum
                    .unwrap_or(i64::MIN)
                    .clamp(i32::MIN.into(), i32::MAX.into()),
            );
            maximum = Some(
                maximum
                    .unwrap_or(i64::MAX)
                    .clamp(i32::MIN.into(), i32::MAX.into()),
            );
        }
        let mut r#type = Type::new(TypeKind::Integer {
            bits: if is_small { 32 } else { 64 },
            minimum,
            maximum,
        });
        r#type.limits.extend(self.multiple(schema, place));
        if let Some(values) = schema["enum"].as_array() {
            let numbers: Vec<_> = values.iter().filter_map(Value::as_i64).collect();
            let nulls = values.iter().filter(|value| value.is_null()).count();
            if numbers.is_empty() || numbers.len() + nulls < values.len() {
                self.report(place, "`enum` of an integer must be a list of integers");
            }
            r#type.nullable = nulls > 0;
            r#type.limits.push(Limit::OneOf(numbers));
        }
        r#type
    }

    fn integer_bound(&self, schema: &Value, name: &str, place: &Place) -> Option<i64> {
        let bound = schema.get(name)?;
        // `1.0` is an integer.
        let whole = bound
            .as_f64()
            .filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
        let number = bound.as_i64().or(whole.map(|number| number as i64));
        if number.is_none() {
            self.report(
                place,
                format!("`{name}` of an integer must be a whole number of 64 bits"),
            );
        }
        number
    }

    pub(super) fn number(&self, schema: &Value, place: &Place) -> Type {
        let allowed = [
            "format",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ];
        self.allow_structure(schema, &allowed, place);
        self.lint_exclusive(schema, place);
        let location = &place.location;
        let is_small = self.reader.text(schema, "format", location) == Some("float");
        let mut r#type = Type::new(TypeKind::Number {
            bits: if is_small { 32 } else { 64 },
        });
        let exclusive = |name| self.reader.flag(schema, name, location);
        if let Some(bound) = self.number_bound(schema, "minimum", place) {
            let exclusive = exclusive("exclusiveMinimum");
            r#type.limits.push(Limit::Minimum { bound, exclusive });
        }
        if let Some(bound) = self.number_bound(schema, "maximum", place) {
            let exclusive = exclusive("exclusiveMaximum");
            r#type.limits.push(Limit::Maximum { bound, exclusive });
        }
        r#type.limits.extend(self.multiple(schema, place));
        r#type
    }

    /// Reports a flag of a bound that is missing.
    fn lint_exclusive(&self, schema: &Value, place: &Place) {
        for (flag, bound) in [
            ("exclusiveMinimum", "minimum"),
            ("exclusiveMaximum", "maximum"),
        ] {
            self.reader.flag(schema, flag, &place.location);
            if schema.get(flag).is_some() && schema.get(bound).is_none() {
                self.report(place, format!("`{flag}` needs `{bound}`"));
            }
        }
    }

    fn number_bound(&self, schema: &Value, name: &str, place: &Place) -> Option<f64> {
        let bound = schema.get(name)?.as_f64();
        if bound.is_none() {
            self.report(place, format!("`{name}` must be a number"));
        }
        bound
    }

    fn multiple(&self, schema: &Value, place: &Place) -> Option<Limit> {
        let step = self.number_bound(schema, "multipleOf", place)?;
        if step <= 0.0 {
            self.report(place, "`multipleOf` must be above 0");
        }
        Some(Limit::MultipleOf(step))
    }
}

/// Checks that the server can enforce a pattern. Its syntax is that of JavaScript, which has more than Rust's `regex`.
fn check_pattern(pattern: &str) -> Result<(), String> {
    match regex::Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(limit)) => Err(format!(
            "the pattern `{pattern}` is larger than {limit} bytes when it is compiled; use a class without Unicode, or `maxLength`"
        )),
        Err(_) => Err(format!(
            "the pattern `{pattern}` is not supported by the crate `regex`, which has no look-around and no back references"
        )),
    }
}
