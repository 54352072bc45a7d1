-- Checkpoints of the in-memory index. They are derived from the rows and may be dropped at any time.

-- All events of one name and UTC day, under the ordinals that their persons had at the manifest's `through_seq`.
-- `properties` is the JSON list of event properties that the segment has columns for; '' is none.
create table segments (
    shard_key bigint not null,
    event text not null,
    properties text not null,
    day bigint not null,
    through_seq bigint not null,
    data bytea not null,
    primary key (shard_key, event, properties, day)
);
alter table segments alter column data set storage external;

-- The segments of an event contain all its events up to `through_seq`, from `from_day` on, in `days` rows.
create table segment_manifests (
    shard_key bigint not null,
    event text not null,
    properties text not null,
    through_seq bigint not null,
    from_day bigint not null,
    days bigint not null default 0,
    primary key (shard_key, event, properties)
);

-- The ordinals of all persons.
create table person_checkpoints (
    shard_key bigint not null,
    through_seq bigint not null,
    data bytea not null,
    primary key (shard_key)
);
alter table person_checkpoints alter column data set storage external;

-- The values of one person property.
create table property_checkpoints (
    shard_key bigint not null,
    key text not null,
    through_seq bigint not null,
    data bytea not null,
    primary key (shard_key, key)
);
alter table property_checkpoints alter column data set storage external;
