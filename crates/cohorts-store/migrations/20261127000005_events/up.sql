-- The append-only log of events.

-- `identity` is a hash of the name and the distinct id: events with equal `uuid` and `identity` are the same event,
-- whatever their times. `day` is the UTC day of `timestamp`; a key of a partitioned table must contain it.
create table events (
    shard_key bigint not null,
    uuid uuid not null,
    identity bigint not null,
    day date not null,
    seq bigint not null,
    ordinal bigint not null,
    event text not null,
    distinct_id text not null,
    timestamp timestamptz not null,
    properties jsonb not null,
    primary key (shard_key, uuid, identity, day)
);
create index events_by_name on events (shard_key, event, timestamp);
create index events_by_seq on events (shard_key, seq);
create index events_by_person on events (shard_key, ordinal);
-- Events arrive roughly in the order of their times, so a summary per range of rows finds the old ones.
create index events_by_time on events using brin (timestamp) with (autosummarize = on);

-- The high-water mark of the log. Its row is locked from `begin_write` to the commit, so sequence numbers rise in
-- commit order.
create table log_heads (
    shard_key bigint not null,
    seq bigint not null,
    primary key (shard_key)
);
