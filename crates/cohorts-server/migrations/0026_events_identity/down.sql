drop index concurrently events_identity;
