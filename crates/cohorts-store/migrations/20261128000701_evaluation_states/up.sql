-- What the members were calculated from; null if no pass can advance them.
alter table cohorts add column evaluation json;
