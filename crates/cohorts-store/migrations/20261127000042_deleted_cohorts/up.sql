-- The time at which a deleted cohort was deleted; null if it is live, or was deleted by a program without this column.
alter table cohorts add column deleted_at timestamptz;
