alter table projects drop column event_retention_days;
