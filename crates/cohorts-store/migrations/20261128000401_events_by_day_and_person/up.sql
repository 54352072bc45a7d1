-- The events of a person. With the day first, new events are added to the part of the index of their days, which is in
-- memory, instead of everywhere in it.
create index concurrently events_by_day_and_person on events (shard_key, day, ordinal);
