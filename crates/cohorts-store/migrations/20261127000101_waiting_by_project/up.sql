-- The order in which the waiting cohorts of a project are claimed.
create index concurrently if not exists cohorts_waiting_by_project
    on cohorts (project_id, last_calculation nulls first, id) where is_calculating;
