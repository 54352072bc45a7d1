-- The moves to an ordinal, in the order of the change log.
create index concurrently tombstones_by_move on tombstones (shard_key, merged_into, moved_after) where moved_after is not null;
