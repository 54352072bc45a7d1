-- What the members were calculated from, and whether each pass of the project includes the cohort.
alter table cohorts add column evaluation json, add column is_live boolean not null default false;
