-- Running calculations, and those of workers that died.
create index concurrently calculations_unfinished on calculations (cohort_id, attempt) where finished_at is null;
