create index events_by_name on events (place, event, timestamp);
