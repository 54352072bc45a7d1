//! A few persons with a few events, to evaluate plans.

use std::convert::Infallible;
use std::sync::Arc;

use cohorts_engine::{
    Action, EventBlock, EventBlockBuilder, EventQuery, Filter, Interrupt, Moment, PropertyBlock,
    PropertyBlockBuilder, Reference, Source, TimesBlock,
};
use roaring::RoaringBitmap;
use serde_json::{Value, json};

/// 2025-06-18T15:30:00Z.
const NOW: i64 = 1_750_260_600_000_000;
const PERSONS: u32 = 6;

pub fn now() -> Moment {
    Moment::new(NOW, "Europe/Berlin").expect("a zone")
}

pub struct Population;

/// A value of any type, which depends on the person and on the key.
fn value(person: u32, key: &str) -> Value {
    let values = [
        json!("pro"),
        json!(31),
        json!("8.5"),
        json!(true),
        json!("2025-06-17T12:00:00Z"),
        json!("1.2.3-rc.1"),
        json!(null),
        json!(["a", {"b": 1}]),
    ];
    values[(person as usize + key.len()) % values.len()].clone()
}

impl Interrupt for Population {
    type Error = Infallible;
}

impl Source for Population {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Infallible> {
        Ok(Arc::new((0..PERSONS).collect()))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Infallible> {
        let mut block = PropertyBlockBuilder::new();
        (0..PERSONS).for_each(|person| block.push(person, &value(person, key)));
        Ok(Arc::new(block.finish()))
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Infallible> {
        let times = (0..PERSONS).map(|person| (person, NOW - i64::from(person) * 86_400_000_000));
        Ok(Arc::new(TimesBlock::new(times)))
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Infallible> {
        self.person_property("distinct_id")
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Infallible> {
        let block = |range: std::ops::Range<u32>| {
            let mut block = EventBlockBuilder::new(&query.properties);
            for nth in range {
                let properties = query.properties.iter();
                let properties = properties.map(|key| (key.clone(), value(nth, key)));
                let time = NOW - i64::from(nth) * 10_000_000_000;
                block.push(nth % PERSONS, time, &properties.collect());
            }
            Arc::new(block.finish())
        };
        Ok(vec![block(10..20), block(0..10)])
    }

    fn event_names(&self) -> Result<Vec<String>, Infallible> {
        Ok(vec!["$pageview".to_owned(), "paid".to_owned()])
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Infallible> {
        Ok(match id {
            1 => Some(Reference::Members(Arc::new([1, 3].into_iter().collect()))),
            2 => {
                let filter = json!({"properties": {"type": "OR", "values": [{"type": "cohort", "key": "id", "value": 2}]}});
                Filter::parse(&filter).ok().map(Reference::Filter)
            }
            _ => None,
        })
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Infallible> {
        let steps =
            json!([{"event": "paid"}, {"url": "shop", "properties": [{"key": "a", "value": 1}]}]);
        Ok((id == 1).then(|| Action::parse(&steps).ok()).flatten())
    }
}
