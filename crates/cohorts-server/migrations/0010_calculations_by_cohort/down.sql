drop index calculations_by_cohort;
