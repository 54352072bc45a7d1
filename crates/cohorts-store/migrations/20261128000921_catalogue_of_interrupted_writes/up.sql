-- The names of the writes up to this sequence number are read from rows: a write in two halves had the number, and if it was
-- interrupted, another write has it too.
alter table definition_heads add column rows_through_seq bigint not null default 0;
