-- Person tables: `shard_key` is the first column of every key, no row refers to a control table, and the service makes
-- all ids.

-- `seq` is the sequence number of the event log that last wrote the person, and `created_seq` the one that created it.
create table persons (
    shard_key bigint not null,
    ordinal bigint not null,
    uuid uuid not null,
    properties jsonb not null,
    is_identified boolean not null,
    created_at timestamptz not null,
    seq bigint not null,
    created_seq bigint not null,
    primary key (shard_key, ordinal)
);
create unique index persons_by_uuid on persons (shard_key, uuid);
create index persons_by_seq on persons (shard_key, seq);
-- The index holds a digest, so an address may have any length.
create index persons_by_email on persons (shard_key, md5(properties ->> 'email')) where properties ? 'email';

-- `seq` is the sequence number that last gave the id to a person, by creation or by a merge.
create table distinct_ids (
    shard_key bigint not null,
    distinct_id text not null,
    ordinal bigint not null,
    seq bigint not null,
    primary key (shard_key, distinct_id)
);
create index distinct_ids_by_ordinal on distinct_ids (shard_key, ordinal);

-- The next free ordinal. Ordinals are dense and are never reused.
create table ordinal_counters (
    shard_key bigint not null,
    next_ordinal bigint not null,
    primary key (shard_key)
);

-- Ordinals that no person has any longer: of deleted persons, and of merged persons with the survivor's ordinal.
-- `uuid` is null for an ordinal that never had a row in `persons`.
create table tombstones (
    shard_key bigint not null,
    ordinal bigint not null,
    seq bigint not null,
    uuid uuid,
    merged_into bigint,
    primary key (shard_key, ordinal)
);
create index tombstones_by_seq on tombstones (shard_key, seq);
create index tombstones_by_survivor on tombstones (shard_key, merged_into) where merged_into is not null;
