-- Members of cohorts, as bitmaps of 65,536 ordinals. Readers take the newest version of each chunk that is not above the
-- cohort's `member_version`. `attempt` is the attempt that wrote the row.
create table member_chunks (
    shard_key bigint not null,
    cohort_id bigint not null,
    chunk bigint not null,
    version bigint not null,
    attempt bigint not null,
    members bytea not null,
    primary key (shard_key, cohort_id, chunk, version)
);
alter table member_chunks alter column members set storage external;
