-- A webhook belongs to the key that created or enabled it. Secrets are encrypted; `old_secret` signs until `old_secret_until`.
-- `cursor` is the position in the change log after the last accepted message: all changes up to `position` were sent.
-- `message_id`, `message_rows` and `message_digest` are the id, the number of changes and a hash of the message that is being
-- sent. `attempts` and `failing_since` are about its failed attempts. `claim` and `lease_until` belong to the process that sends it.
create table webhooks (
    id bigint generated always as identity primary key,
    project_id bigint not null references projects,
    key_id bigint not null references keys,
    created_by bigint references teammates,
    created_at timestamptz not null,
    url text not null,
    cohort_ids bigint[],
    description text not null,
    enabled boolean not null,
    secret bytea not null,
    old_secret bytea,
    old_secret_until timestamptz,
    cursor text not null,
    position bigint not null,
    message_id text,
    message_rows bigint,
    message_digest text,
    attempts bigint not null default 0,
    failing_since timestamptz,
    next_attempt_at timestamptz,
    paused_reason text,
    paused_detail text,
    claim bigint not null default 0,
    lease_until timestamptz
);
alter table webhooks alter column secret set storage external;
alter table webhooks alter column old_secret set storage external;
create index webhooks_of_project on webhooks (project_id, id desc);
create index webhooks_enabled on webhooks (id) where enabled;

-- One row per attempt to deliver a message, without the body of the message. A test has no cursors.
create table webhook_deliveries (
    id bigint generated always as identity primary key,
    webhook_id bigint not null references webhooks,
    message_id text not null,
    kind text not null,
    from_cursor text,
    cursor text,
    changes bigint not null,
    attempt bigint not null,
    response_status bigint,
    response_body text,
    error text,
    started_at timestamptz not null,
    duration_ms bigint not null
);
create index webhook_deliveries_newest_first on webhook_deliveries (webhook_id, id desc);

-- The activity log of webhooks. It is not in `activities`, where each entry has a cohort. An entry without a teammate was
-- written by the service itself.
create table webhook_activities (
    id bigint generated always as identity primary key,
    project_id bigint not null references projects,
    webhook_id bigint not null,
    teammate_id bigint references teammates,
    activity text not null,
    description text not null,
    changes json,
    created_at timestamptz not null
);
create index webhook_activities_newest_first on webhook_activities (project_id, id desc);
