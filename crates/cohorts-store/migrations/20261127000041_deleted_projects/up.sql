-- The time at which the deletion of the project began; null for a project in use. Such a project is as good as deleted.
alter table projects add column deletion_started_at timestamptz;
