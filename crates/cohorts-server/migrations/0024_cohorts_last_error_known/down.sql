update cohorts set last_error_code = null, last_error = null;
