//! Entry points for the fuzz targets in `fuzz/`, which cannot see private functions.
//!
//! The module exists under `cfg(fuzzing)` only.

use std::fs::File;
use std::time::Duration;

use cohorts_api::{MemoryBudget, RawBody};
use serde_json::Value;
use uuid::Uuid;

use super::capture::{DecodingMemory, Payload, decode, token_of};
use super::person_file::PersonFile;
use crate::ingest::{Arrival, Item};

const BUDGET: usize = 256 << 20;

/// Decodes a body and reads its items. Returns the JSON text; `None` if the body is refused.
pub fn capture(body: &[u8], content_type: Option<&str>, encoding: Option<&str>) -> Option<String> {
    let body = RawBody {
        bytes: body.to_vec().into(),
        reservation: None,
        content_type: content_type.map(str::to_owned),
        content_encoding: encoding.map(str::to_owned),
    };
    let memory = DecodingMemory::new(MemoryBudget::new(BUDGET), Duration::ZERO);
    let body = decode(&memory, body).ok()?;
    let text = body.text().ok()?;
    let standard = body.standardized(&memory).ok()?;
    let standard = standard.as_ref().unwrap_or(&body);
    if let Ok(payload) = Payload::parse(standard.text().ok()?) {
        for item in payload.items {
            token_of(item);
            for arrival in [false, true] {
                let arrival = Arrival {
                    is_export: arrival,
                    ..Arrival::of_file()
                };
                if let Ok(item) = Item::read(item, &arrival, Uuid::nil) {
                    check_item(&item);
                }
            }
        }
    }
    Some(text.to_owned())
}

/// The item can be stored.
fn check_item(item: &Item) {
    assert!(!item.distinct_id.is_empty() && !item.distinct_id.contains('\0'));
    assert!(!item.event.contains('\0'));
    assert!(item.memory() > item.properties.0.len());
    let properties = serde_json::from_str(&item.properties.0);
    let properties: Value = properties.expect("properties are JSON");
    assert!(properties.is_object() && !has_nul(&properties));
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(list) => list.iter().any(has_nul),
        Value::Object(map) => map
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// Reads the rows of an uploaded file.
pub fn csv(file: File) {
    let Ok(rows) = PersonFile::open(file) else {
        return;
    };
    for row in rows.map_while(Result::ok) {
        assert!(row.line > 0);
        assert!(row.has_id() || row.fault.is_some());
        assert!(row.fault.is_some() || !row.id.contains('\0'));
    }
}
