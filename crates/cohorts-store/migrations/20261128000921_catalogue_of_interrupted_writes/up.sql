-- The sequence numbers of writes in two halves that have begun, and are not known to be complete. If one was interrupted, a
-- later write has the same number, so the names of both are read from rows.
alter table definition_heads add column unfinished bigint[] not null default '{}';
