-- Events that happened longer ago are deleted; all are kept where it is null.
alter table projects add column event_retention_days integer check (event_retention_days > 0);
