//! The catalogue: the names of events and properties, and their values.

use cohorts_api::types::{
    EventDefinition, EventValue, PaginatedEventDefinitionList, PaginatedPropertyDefinitionList,
    PropertyDefinition, PropertyDefinitionPropertyType, PropertyDefinitionsListType,
};
use cohorts_api::{
    CatalogueApi, EventDefinitionsListRequest, EventDefinitionsListResponse,
    EventsValuesRetrieveRequest, EventsValuesRetrieveResponse, PropertyDefinitionsListQuery,
    PropertyDefinitionsListRequest, PropertyDefinitionsListResponse,
};
use cohorts_engine::stored_name;
use cohorts_store::{Conn, ProjectId};
use uuid::Uuid;

use super::{Service, limit_and_offset};
use crate::auth::Caller;
use crate::error::Error;
use crate::index::catalogue::{CatalogueNames, CatalogueRead, PropertyType, ValueKinds};
use crate::index::snapshot::ValueOwner;

mod values;

/// The most names of events in a request.
const MAX_EVENT_NAMES: usize = 1_000;

impl CatalogueApi for Service {
    async fn event_definitions_list(
        &self,
        caller: Caller,
        request: EventDefinitionsListRequest,
    ) -> Result<EventDefinitionsListResponse, Error> {
        let query = request.query;
        let (limit, offset) = limit_and_offset(query.limit, query.offset);
        let project = caller.project.id();
        let CatalogueRead { names, is_full } = self.catalogue(project).await?;
        let search = Search::new(query.search);
        let matching = names.events().filter(|name| search.matches(name));
        let (count, page) = page_of(matching, limit, offset);
        let definition = |name: &str| EventDefinition {
            id: definition_id(project, "event", name),
            name: name.to_owned(),
            tags: Vec::new(),
        };
        let results = page.into_iter().map(definition).collect();
        let (next, previous) = self.links(&request.http).around(limit, offset, count);
        Ok(EventDefinitionsListResponse::Status200(
            PaginatedEventDefinitionList {
                count,
                next,
                previous,
                results,
                limit_reached: Some(is_full),
            },
        ))
    }

    async fn property_definitions_list(
        &self,
        caller: Caller,
        request: PropertyDefinitionsListRequest,
    ) -> Result<PropertyDefinitionsListResponse, Error> {
        let query = request.query;
        let (limit, offset) = limit_and_offset(query.limit, query.offset);
        let events = event_names(query.event_names.as_deref())?;
        let project = caller.project.id();
        let CatalogueRead { names, is_full } = self.catalogue(project).await?;
        let properties = matching_properties(&names, query, events.as_deref());
        let (count, page) = page_of(properties.into_iter(), limit, offset);
        let results = page.into_iter().map(|property| property.present(project));
        let results = results.collect();
        let (next, previous) = self.links(&request.http).around(limit, offset, count);
        Ok(PropertyDefinitionsListResponse::Status200(
            PaginatedPropertyDefinitionList {
                count,
                next,
                previous,
                results,
                limit_reached: Some(is_full),
            },
        ))
    }

    async fn events_values_retrieve(
        &self,
        caller: Caller,
        request: EventsValuesRetrieveRequest,
    ) -> Result<EventsValuesRetrieveResponse, Error> {
        let query = request.query;
        let event = query.event_name.filter(|name| !name.is_empty());
        let event = event.map(|name| stored_name(&name).into_owned());
        let owner = ValueOwner::Events(event);
        let (key, prefix) = (query.key, query.value);
        let values = self
            .common_values(caller.project.id(), owner, key, prefix)
            .await?;
        let values = values.into_iter();
        let values = values.map(|(name, count)| EventValue { name, count });
        Ok(EventsValuesRetrieveResponse::Status200(values.collect()))
    }
}

impl Service {
    async fn catalogue(&self, project: ProjectId) -> Result<CatalogueRead, Error> {
        let store = self.store.clone();
        let read = move |conn: &mut Conn| Ok(store.caches.catalogue.read(conn, project)?);
        self.read(project, read).await
    }
}

/// The words that a name must contain.
struct Search(Vec<String>);

impl Search {
    fn new(search: Option<String>) -> Self {
        let text = search.unwrap_or_default().to_lowercase();
        Self(text.split_whitespace().map(str::to_owned).collect())
    }

    fn matches(&self, name: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let name = name.to_lowercase();
        self.0.iter().all(|word| name.contains(word))
    }
}

/// The number of rows, and those of a page.
fn page_of<T>(rows: impl Iterator<Item = T>, limit: i64, offset: i64) -> (i64, Vec<T>) {
    let (mut count, mut page) = (0, Vec::new());
    for row in rows {
        if count >= offset && count - offset < limit {
            page.push(row);
        }
        count += 1;
    }
    (count, page)
}

/// The list in the parameter `event_names`.
fn event_names(text: Option<&str>) -> Result<Option<Vec<String>>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let names: Vec<String> = serde_json::from_str(text).map_err(|_| {
        Error::field(
            "event_names",
            "Must be a JSON list of texts, such as [\"paid\"].",
        )
    })?;
    if names.len() > MAX_EVENT_NAMES {
        let detail = format!("Must have at most {MAX_EVENT_NAMES} names.");
        return Err(Error::field("event_names", detail));
    }
    let names = names.iter().map(|name| stored_name(name).into_owned());
    Ok(Some(names.collect()))
}

/// A property of a list.
struct ListedProperty<'a> {
    name: &'a str,
    kinds: ValueKinds,
    is_of_persons: bool,
    is_seen: Option<bool>,
}

/// The properties that a request selects, in the order of the list.
fn matching_properties<'a>(
    names: &'a CatalogueNames,
    query: PropertyDefinitionsListQuery,
    events: Option<&[String]>,
) -> Vec<ListedProperty<'a>> {
    let is_of_persons = query.type_ == PropertyDefinitionsListType::Person;
    let properties = if is_of_persons {
        names.person_properties()
    } else {
        names.event_properties()
    };
    let events = events.filter(|_| !is_of_persons);
    let of_events = events.map(|events| {
        let properties = events.iter().map(|event| names.properties_of(event));
        properties.flatten().collect::<Vec<_>>()
    });
    let is_seen = |name: &str| {
        let mut properties = of_events.as_ref()?.iter();
        Some(properties.any(|properties| properties.contains_key(name)))
    };
    let search = Search::new(query.search);
    let matching = properties.iter().filter(|(name, _)| search.matches(name));
    let listed = matching.map(|(name, kinds)| ListedProperty {
        name,
        kinds: *kinds,
        is_of_persons,
        is_seen: is_seen(name),
    });
    let is_selected = |property: &ListedProperty<'_>| {
        !query.filter_by_event_names || property.is_seen != Some(false)
    };
    let mut listed: Vec<_> = listed.filter(is_selected).collect();
    listed.sort_by_key(|property| property.is_seen == Some(false));
    listed
}

impl ListedProperty<'_> {
    fn present(self, project: ProjectId) -> PropertyDefinition {
        let list = if self.is_of_persons {
            "person"
        } else {
            "event property"
        };
        let property_type = self.kinds.property_type();
        PropertyDefinition {
            id: definition_id(project, list, self.name),
            name: self.name.to_owned(),
            is_numerical: property_type == Some(PropertyType::Numeric),
            property_type: property_type.map(presented_type),
            tags: Vec::new(),
            is_seen_on_filtered_events: self.is_seen,
        }
    }
}

fn presented_type(property_type: PropertyType) -> PropertyDefinitionPropertyType {
    match property_type {
        PropertyType::String => PropertyDefinitionPropertyType::String,
        PropertyType::Numeric => PropertyDefinitionPropertyType::Numeric,
        PropertyType::Boolean => PropertyDefinitionPropertyType::Boolean,
        PropertyType::DateTime => PropertyDefinitionPropertyType::DateTime,
    }
}

/// An id that follows from the name, so it stays the same.
fn definition_id(project: ProjectId, list: &str, name: &str) -> Uuid {
    let text = format!("{} {list} {name}", project.0);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
}
