create index activity_newest_first on activities (project_id, cohort_id, id desc);
