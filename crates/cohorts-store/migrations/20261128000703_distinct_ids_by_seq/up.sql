-- The persons that have gained a distinct id since a sequence number.
create index concurrently distinct_ids_by_seq on distinct_ids (shard_key, seq);
