-- The type stays the same, so this rewrites nothing. It deletes the statistics of the column that were collected earlier.
alter table persons alter column shard_key type bigint;
