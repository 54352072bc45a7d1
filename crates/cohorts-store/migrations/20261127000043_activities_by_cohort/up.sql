-- For the deletion of old entries, and of cohorts, which the entries refer to.
create index concurrently activities_by_cohort on activities (cohort_id, id);
