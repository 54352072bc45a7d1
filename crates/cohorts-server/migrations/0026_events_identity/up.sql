-- A uuid is one event, whatever its day: it is looked up without it.
create unique index concurrently events_identity on events (place, uuid, day);
