-- `version` and `pending_version` count finished and requested calculations.
-- `member_version` is the attempt that wrote the chunks readers use, and `seen_seq` the sequence number of the event log
-- up to which those members are complete.
-- `attempt` and `lease_until` belong to the worker that calculates the cohort.
-- `due_at` is the time of the next check, and `waiting_since` the time of the oldest unanswered request.
-- `fill_pending_criteria` and `fill_pending_query`: the first fill of a static cohort from these is still to be done.
-- `last_error_code` and `last_error` describe the last failed calculation, also after later successes.
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
    seen_seq bigint not null default 0,
    count bigint,
    is_calculating boolean not null,
    last_calculation timestamptz,
    errors_calculating bigint not null default 0,
    attempt bigint not null default 0,
    lease_until timestamptz,
    due_at timestamptz,
    waiting_since timestamptz,
    fill_pending_criteria boolean not null default false,
    fill_pending_query boolean not null default false,
    last_error_code text,
    last_error text
);
create index cohorts_newest_first on cohorts (project_id, created_at desc, id desc) where not deleted;
create index cohorts_due on cohorts (last_calculation nulls first) where not deleted and not is_static;
create index cohorts_waiting on cohorts (last_calculation nulls first, id) where is_calculating;

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
create index calculations_by_cohort on calculations (cohort_id, started_at desc);
create index calculations_failed on calculations (cohort_id, started_at desc) where error is not null;

-- An entry without a teammate was written by the service itself.
create table activities (
    id bigint generated always as identity primary key,
    project_id bigint not null references projects,
    cohort_id bigint not null references cohorts,
    teammate_id bigint references teammates,
    activity text not null,
    name text,
    changes json,
    created_at timestamptz not null
);
create index activity_newest_first on activities (project_id, cohort_id, id desc);
create index activity_of_project on activities (project_id, id desc);

-- One row per file uploaded to a static cohort, with the outcome of the file's rows.
create table uploads (
    id bigint generated always as identity primary key,
    cohort_id bigint not null references cohorts,
    teammate_id bigint references teammates,
    created_at timestamptz not null,
    id_kind text not null,
    rows bigint not null,
    added bigint not null,
    already_members bigint not null,
    unknown bigint not null,
    bad_rows bigint not null,
    created_people bigint not null,
    removed bigint not null,
    problems json not null,
    problems_left_out bigint not null
);
create index uploads_by_cohort on uploads (cohort_id, id desc);
