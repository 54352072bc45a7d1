-- The change log of members. `change_heads` has the last publication number of a shard key, which a writer takes under the
-- lock of the row. A row of `member_changes` is one published version of a cohort; its persons are in `member_change_slices`,
-- which are written before the version is published. `cohort_sizes` has the size of a cohort at the end of a span.
create table change_heads (
    shard_key bigint not null,
    number bigint not null,
    published_at timestamptz not null,
    bytes bigint not null,
    by_minute_through bigint not null,
    by_hour_through bigint not null,
    expired_through bigint not null,
    complete_since timestamptz not null,
    primary key (shard_key)
);
create table member_changes (
    shard_key bigint not null,
    number bigint not null,
    cohort_id bigint not null,
    base_version bigint not null,
    version bigint not null,
    attempt bigint not null,
    cause text not null,
    published_at timestamptz not null,
    entered bigint not null,
    "left" bigint not null,
    count bigint not null,
    bytes bigint not null,
    primary key (shard_key, number)
);
alter table member_changes alter column shard_key set statistics 0;
create index member_changes_by_cohort on member_changes (shard_key, cohort_id, number);
create table member_change_slices (
    shard_key bigint not null,
    cohort_id bigint not null,
    version bigint not null,
    first_chunk bigint not null,
    entered bytea not null,
    "left" bytea not null,
    reverted bytea not null,
    primary key (shard_key, cohort_id, version, first_chunk)
);
alter table member_change_slices alter column shard_key set statistics 0;
alter table member_change_slices alter column entered set storage external;
alter table member_change_slices alter column "left" set storage external;
alter table member_change_slices alter column reverted set storage external;
create table cohort_sizes (
    shard_key bigint not null,
    cohort_id bigint not null,
    at timestamptz not null,
    seconds bigint not null,
    count bigint not null,
    entered bigint not null,
    "left" bigint not null,
    primary key (shard_key, cohort_id, at)
);
alter table cohort_sizes alter column shard_key set statistics 0;
create index cohort_sizes_by_time on cohort_sizes (shard_key, seconds, at);
