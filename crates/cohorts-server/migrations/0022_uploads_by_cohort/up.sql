create index uploads_by_cohort on uploads (cohort_id, id desc);
