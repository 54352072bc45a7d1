-- The columnar store of events, which follows the log. It is derived from the rows and may be dropped at any time.

-- Events of one name and UTC day, from a span of the log that ends at `seq`, under the ordinals with which they were
-- written. `data` has the persons and times; `properties` has a directory and a column for each property.
create table segments (
    shard_key bigint not null,
    event text not null,
    day bigint not null,
    seq bigint not null,
    part bigint not null,
    row_count bigint not null,
    data bytea not null,
    properties bytea not null,
    primary key (shard_key, event, day, seq, part)
);
alter table segments alter column data set storage external;
alter table segments alter column properties set storage external;

-- Every event up to `through_seq` is in a segment. Until `claimed_until`, an import writes the segments.
create table segment_heads (
    shard_key bigint not null,
    through_seq bigint not null,
    claimed_until timestamptz,
    primary key (shard_key)
);
