-- The values of one person property, of the persons of one part: 2^20 ordinals. Each part has its own `through_seq`.
create table property_checkpoints (
    shard_key bigint not null,
    property text not null,
    part bigint not null,
    through_seq bigint not null,
    data bytea not null,
    primary key (shard_key, property, part)
);
alter table property_checkpoints alter column data set storage external;
