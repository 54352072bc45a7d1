-- Why the cohort's last failed calculation failed, also where later ones ended well.
alter table cohorts add column last_error_code text, add column last_error text;
