-- Checkpoints of the order in which persons are listed. They are derived from the rows and may be dropped at any time.

-- The buckets of a shard key, in `buckets` rows, contain all persons as of `through_seq`; it is -1 until all of them are
-- written. Each write raises `version`.
create table rankings (
    shard_key bigint not null,
    through_seq bigint not null,
    version bigint not null,
    buckets bigint not null,
    primary key (shard_key)
);

-- The persons from one key of the order up to the next bucket, as of `through_seq`: their ordinals, and their keys in
-- order.
create table ranking_buckets (
    shard_key bigint not null,
    start_time bigint not null,
    start_ordinal bigint not null,
    through_seq bigint not null,
    ordinals bytea not null,
    keys bytea not null,
    primary key (shard_key, start_time, start_ordinal)
);
alter table ranking_buckets alter column ordinals set storage external;
alter table ranking_buckets alter column keys set storage external;
