-- How often it was changed how long events are kept: what was read before may hold what is deleted since.
alter table projects add column retention_changes bigint not null default 0;
