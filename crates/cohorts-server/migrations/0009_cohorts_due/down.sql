drop index cohorts_due;
