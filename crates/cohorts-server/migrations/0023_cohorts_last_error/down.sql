alter table cohorts drop column last_error_code, drop column last_error;
