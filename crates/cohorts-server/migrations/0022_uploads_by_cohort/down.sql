drop index uploads_by_cohort;
