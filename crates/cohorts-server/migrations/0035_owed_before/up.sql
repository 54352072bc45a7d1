update cohorts set owes_criteria = true
where is_static and last_calculation is null and (is_calculating or errors_calculating > 0);
