-- The names of events and properties of a project, with the kinds of their values as bits. `kind` is 1 for an event, 2 for
-- a property of an event and 3 for a property of persons. The other of `event` and `name` is empty.
create table definitions (
    shard_key bigint not null,
    kind smallint not null,
    event text not null,
    name text not null,
    value_kinds smallint not null,
    primary key (shard_key, kind, event, name)
);
-- How far the definitions follow the log. Each change of the definitions raises `version`.
create table definition_heads (
    shard_key bigint not null,
    through_seq bigint not null,
    version bigint not null,
    is_full boolean not null,
    primary key (shard_key)
);
-- Names that a write of the log with this sequence number has removed from an event or a person, so perhaps from all. An
-- empty name of kind 2 stands for all properties of the event.
create table definition_checks (
    shard_key bigint not null,
    kind smallint not null,
    event text not null,
    name text not null,
    seq bigint not null,
    primary key (shard_key, kind, event, name)
);
