create index cohorts_newest_first on cohorts (project_id, created_at desc, id desc) where not deleted;
