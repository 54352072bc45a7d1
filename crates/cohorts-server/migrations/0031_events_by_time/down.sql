drop index concurrently events_by_time;
