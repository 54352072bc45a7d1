update cohorts set owes_criteria = false where owes_criteria;
