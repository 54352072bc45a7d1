drop index cohorts_waiting;
