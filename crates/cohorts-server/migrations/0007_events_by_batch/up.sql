create index events_by_batch on events (place, batch);
