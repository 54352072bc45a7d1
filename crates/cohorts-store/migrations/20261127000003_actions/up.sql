-- Named sets of events: `steps` is a list of alternatives.
create table actions (
    id bigint generated always as identity primary key,
    project_id bigint not null references projects,
    name text,
    description text not null,
    steps json not null,
    deleted boolean not null,
    created_by bigint references teammates,
    created_at timestamptz not null
);
create index actions_of_project on actions (project_id, id desc) where not deleted;
