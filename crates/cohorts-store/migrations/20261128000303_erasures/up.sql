-- Deleted persons that may still be in checkpoints. `seq` is the sequence number of the deletion, and 0 while only
-- events were deleted. `events` is the JSON list of the names and UTC days, counted from 1970, of the person's events.
create table erasures (
    shard_key bigint not null,
    ordinal bigint not null,
    seq bigint not null,
    events jsonb not null,
    primary key (shard_key, ordinal)
);
