-- Control tables: ordinary tables with identity keys and foreign keys among themselves.

create table projects (
    id bigint generated always as identity primary key,
    name text not null,
    time_zone text not null,
    token text not null unique,
    created_at timestamptz not null default now()
);

create table teammates (
    id bigint generated always as identity primary key,
    uuid uuid not null unique,
    email text not null unique,
    first_name text not null,
    created_at timestamptz not null default now()
);

create table keys (
    id bigint generated always as identity primary key,
    hash bytea not null unique,
    label text not null,
    teammate_id bigint not null references teammates,
    scopes text[] not null,
    every_project boolean not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

create table key_projects (
    key_id bigint not null references keys,
    project_id bigint not null references projects,
    primary key (key_id, project_id)
);

-- `version` and `pending_version` count calculations. `member_version` is the attempt whose chunks readers use,
-- and `seen_batch` the last batch of the project's log that those members know of.
-- `attempt` and `lease_until` belong to the worker which calculates the cohort.
create table cohorts (
    id bigint generated always as identity primary key,
    project_id bigint not null references projects,
    name text,
    description text not null,
    groups json not null,
    filters json,
    query json,
    deleted boolean not null,
    is_static boolean not null,
    cohort_type text,
    created_by bigint references teammates,
    created_at timestamptz not null,
    version bigint,
    pending_version bigint,
    member_version bigint not null default 0,
    seen_batch bigint not null default 0,
    count bigint,
    is_calculating boolean not null,
    last_calculation timestamptz,
    errors_calculating bigint not null default 0,
    retry_at timestamptz,
    attempt bigint not null default 0,
    lease_until timestamptz
);

create table calculations (
    id bigint generated always as identity primary key,
    cohort_id bigint not null references cohorts,
    version bigint not null,
    attempt bigint not null,
    filters json,
    started_at timestamptz not null,
    finished_at timestamptz,
    count bigint,
    error_code text,
    error text
);
