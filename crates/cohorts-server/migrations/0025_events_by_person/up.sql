create index concurrently events_by_person on events (place, number);
