-- Control tables: ordinary tables with identity keys and foreign keys among themselves.

-- `event_retention_days`: older events are deleted; null keeps all.
-- `retention_changes` counts changes of it, because an index built before a change may contain deleted events.
create table projects (
    id bigint generated always as identity primary key,
    name text not null,
    time_zone text not null,
    token text not null unique,
    created_at timestamptz not null default now(),
    event_retention_days integer check (event_retention_days > 0),
    retention_changes bigint not null default 0
);

create table teammates (
    id bigint generated always as identity primary key,
    uuid uuid not null unique,
    email text not null unique,
    first_name text not null,
    created_at timestamptz not null default now()
);

-- `last_used_at` is exact to about a minute.
create table keys (
    id bigint generated always as identity primary key,
    hash bytea not null unique,
    label text not null,
    teammate_id bigint not null references teammates,
    scopes text[] not null,
    every_project boolean not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    expires_at timestamptz,
    last_used_at timestamptz
);

create table key_projects (
    key_id bigint not null references keys,
    project_id bigint not null references projects,
    primary key (key_id, project_id)
);
