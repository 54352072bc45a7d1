-- Whether a static cohort still lacks whom its criteria, or its query, ask for.
alter table cohorts
    add column owes_criteria boolean not null default false,
    add column owes_query boolean not null default false;
