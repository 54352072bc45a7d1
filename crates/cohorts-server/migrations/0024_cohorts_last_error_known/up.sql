update cohorts set last_error_code = failed.error_code, last_error = failed.error
from (
    select distinct on (cohort_id) cohort_id, error_code, error from calculations
    where error is not null order by cohort_id, started_at desc
) as failed
where failed.cohort_id = cohorts.id;
