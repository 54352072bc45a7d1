-- The calculations that run, and those whose claim was lost.
create index concurrently if not exists calculations_unfinished
    on calculations (cohort_id) where finished_at is null;
