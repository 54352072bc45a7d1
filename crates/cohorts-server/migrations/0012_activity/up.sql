-- Who changed what. An entry without a teammate is the service's own.
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
