create index cohorts_due on cohorts (last_calculation nulls first) where not deleted and not is_static;
