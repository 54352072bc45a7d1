-- Replaced by cohorts_waiting_by_project. A claim of one project would skip the waiting cohorts of all others in it.
drop index concurrently if exists cohorts_waiting;
