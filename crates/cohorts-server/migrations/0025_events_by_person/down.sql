drop index concurrently events_by_person;
