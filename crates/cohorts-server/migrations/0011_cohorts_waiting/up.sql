create index cohorts_waiting on cohorts (last_calculation nulls first, id) where is_calculating;
