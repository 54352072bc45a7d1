-- Which process makes the passes of a project, until `lease_until`. The members of its live cohorts are right as of this
-- moment, and up to this sequence number of the log.
create table live_projects (
    project_id bigint not null references projects on delete cascade,
    owner uuid not null,
    host text not null,
    process text not null,
    semantics bigint not null,
    lease_until timestamptz not null,
    right_as_of timestamptz not null,
    seq bigint not null,
    primary key (project_id)
);
