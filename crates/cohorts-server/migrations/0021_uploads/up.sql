-- What became of the rows of each file that was uploaded to a static cohort.
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
