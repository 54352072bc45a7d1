//! Parameters of PostHog's API that this service does not have. They are refused, because to ignore them would read or
//! delete other data than the client asked for.

use cohorts_api::RequestHead;
use form_urlencoded::parse;

use crate::error::Error;

/// A parameter, and what a client should do instead.
#[derive(Clone, Copy)]
struct Unsupported {
    name: &'static str,
    /// The values that are the same as no parameter.
    allowed: &'static [&'static str],
    remedy: &'static str,
}

const FALSE: &[&str] = &["0", "false"];

/// Parameters that would select other persons.
const SELECTIONS: [Unsupported; 7] = [
    Unsupported {
        name: "category",
        allowed: &[],
        remedy: "Leave it out, and use the field `is_identified` of the persons.",
    },
    Unsupported {
        name: "filter_test_accounts",
        allowed: FALSE,
        remedy: "Leave it out, and exclude test accounts with `properties`.",
    },
    Unsupported {
        name: "id",
        allowed: &[],
        remedy: "Leave it out, and request each person as `persons/<id>/`.",
    },
    Unsupported {
        name: "is_identified",
        allowed: &[],
        remedy: "Leave it out, and use the field `is_identified` of the persons.",
    },
    Unsupported {
        name: "key_identifier",
        allowed: &[],
        remedy: "Use `email` or `distinct_id`.",
    },
    Unsupported {
        name: "updated_after",
        allowed: &[],
        remedy: "Leave it out; the service does not list persons by the time of their change.",
    },
    Unsupported {
        name: "uuid",
        allowed: &[],
        remedy: "Leave it out, and request each person as `persons/<uuid>/`.",
    },
];

/// Parameters that would list other events, or events in another order.
const EVENT_SELECTIONS: [Unsupported; 6] = [
    Unsupported {
        name: "action_id",
        allowed: &[],
        remedy: "Leave it out, and use `event`.",
    },
    Unsupported {
        name: "offset",
        allowed: &["0"],
        remedy: "Leave it out, and follow `next`.",
    },
    Unsupported {
        name: "orderBy",
        allowed: &["-timestamp", r#"["-timestamp"]"#],
        remedy: "Leave it out; the newest event comes first.",
    },
    Unsupported {
        name: "properties",
        allowed: &["[]"],
        remedy: "Leave it out, and use `event`.",
    },
    Unsupported {
        name: "select",
        allowed: &[],
        remedy: "Leave it out; events have all fields.",
    },
    Unsupported {
        name: "where",
        allowed: &[],
        remedy: "Leave it out, and use `event`, `after` and `before`.",
    },
];

/// Parameters that would delete other data than the person with its events.
const DELETIONS: [Unsupported; 2] = [
    Unsupported {
        name: "delete_recordings",
        allowed: FALSE,
        remedy: "This service has no recordings; leave it out.",
    },
    Unsupported {
        name: "keep_person",
        allowed: FALSE,
        remedy: "Leave it out to delete the person with all events.",
    },
];

/// Parameters of the deletion of many persons. The body may also have them.
const BULK_DELETIONS: [Unsupported; 3] = [
    Unsupported {
        name: "delete_events",
        allowed: FALSE,
        remedy: "The events of a deleted person are always deleted; leave it out.",
    },
    DELETIONS[0],
    DELETIONS[1],
];

/// Fails if the request of persons has a parameter that this service does not have.
pub fn refuse_selections(head: &RequestHead) -> Result<(), Error> {
    refuse(head.query(), &SELECTIONS)
}

/// Fails if the request of events has a parameter that this service does not have.
pub fn refuse_event_selections(head: &RequestHead) -> Result<(), Error> {
    refuse(head.query(), &EVENT_SELECTIONS)
}

/// Fails if the deletion of a person has a parameter that this service does not have.
pub fn refuse_deletions(head: &RequestHead) -> Result<(), Error> {
    refuse(head.query(), &DELETIONS)
}

/// Fails if the deletion of many persons has a parameter that this service does not have.
pub fn refuse_bulk_deletions(head: &RequestHead) -> Result<(), Error> {
    refuse(head.query(), &BULK_DELETIONS)
}

/// As [`refuse_bulk_deletions`], for the options in the body.
pub fn refuse_bulk_options<const N: usize>(options: [(&str, bool); N]) -> Result<(), Error> {
    let is_on = |one: &&Unsupported| options.contains(&(one.name, true));
    match BULK_DELETIONS.iter().find(is_on) {
        Some(unsupported) => Err(unsupported.error()),
        None => Ok(()),
    }
}

fn refuse(query: &str, unsupported: &[Unsupported]) -> Result<(), Error> {
    for (name, value) in parse(query.as_bytes()) {
        let known = unsupported.iter().find(|one| one.name == name);
        if let Some(known) = known.filter(|one| !one.allows(&value)) {
            return Err(known.error());
        }
    }
    Ok(())
}

impl Unsupported {
    fn error(&self) -> Error {
        let Self { name, remedy, .. } = self;
        let detail = format!("This service does not have PostHog's parameter `{name}`. {remedy}");
        Error::field(name, detail)
    }

    fn allows(&self, value: &str) -> bool {
        let is_same = |allowed: &&str| value.eq_ignore_ascii_case(allowed);
        self.allowed.iter().any(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unsupported_parameters_are_refused() {
        let attr = |query: &str| match refuse(query, &SELECTIONS) {
            Err(Error::Validation { attr, .. }) => attr,
            other => panic!("{other:?}"),
        };
        for (query, name) in [
            ("uuid=a", "uuid"),
            ("limit=1&%75uid=", "uuid"),
            ("is_identified=false", "is_identified"),
            ("filter_test_accounts=true", "filter_test_accounts"),
        ] {
            assert_eq!(attr(query).as_deref(), Some(name), "{query}");
        }
        for query in [
            "",
            "limit=1&search=uuid",
            "filter_test_accounts=False",
            "refresh=true",
        ] {
            assert!(refuse(query, &SELECTIONS).is_ok(), "{query}");
        }
        let ordered = |order: &str| refuse(&format!("orderBy={order}"), &EVENT_SELECTIONS);
        assert!(ordered("-timestamp").is_ok() && ordered("timestamp").is_err());
        assert!(refuse("keep_person", &DELETIONS).is_err());
        assert!(refuse("delete_events=true&keep_person=false", &DELETIONS).is_ok());
    }
}
