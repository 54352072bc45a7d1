drop index cohorts_newest_first;
