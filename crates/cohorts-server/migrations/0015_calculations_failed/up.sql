create index calculations_failed on calculations (cohort_id, started_at desc) where error is not null;
