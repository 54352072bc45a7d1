alter table cohorts drop column owes_criteria, drop column owes_query;
