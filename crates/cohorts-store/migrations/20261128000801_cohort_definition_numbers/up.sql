-- The number of the definition, which each edit of the cohort raises. Readers see it as the ETag.
alter table cohorts add column definition_number bigint not null default 1;
