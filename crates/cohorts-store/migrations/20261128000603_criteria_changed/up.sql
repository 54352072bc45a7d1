-- Whether the next calculation has other criteria than the last one.
alter table cohorts add column criteria_changed boolean not null default false;
