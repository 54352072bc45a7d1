-- Whether each pass of the project includes the cohort.
alter table cohorts add column is_live boolean not null default false;
