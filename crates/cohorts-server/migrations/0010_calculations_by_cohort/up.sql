create index calculations_by_cohort on calculations (cohort_id, started_at desc);
