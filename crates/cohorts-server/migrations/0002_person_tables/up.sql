-- Person tables: `place` leads every key, nothing refers to a control table, ids are made by the service.

create table persons (
    place bigint not null,
    number bigint not null,
    uuid uuid not null,
    properties jsonb not null,
    is_identified boolean not null,
    created_at timestamptz not null,
    primary key (place, number)
);

create table distinct_ids (
    place bigint not null,
    distinct_id text not null,
    number bigint not null,
    primary key (place, distinct_id)
);

create table person_counters (
    place bigint not null,
    next_number bigint not null,
    primary key (place)
);

create table log_heads (
    place bigint not null,
    batch bigint not null,
    primary key (place)
);

create table events (
    place bigint not null,
    day date not null,
    uuid uuid not null,
    batch bigint not null,
    number bigint not null,
    event text not null,
    distinct_id text not null,
    timestamp timestamptz not null,
    properties jsonb not null,
    primary key (place, day, uuid)
);

create table member_chunks (
    place bigint not null,
    cohort_id bigint not null,
    chunk bigint not null,
    version bigint not null,
    members bytea not null,
    primary key (place, cohort_id, chunk, version)
);
