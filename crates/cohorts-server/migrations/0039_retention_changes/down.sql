alter table projects drop column retention_changes;
