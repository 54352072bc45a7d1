-- project_deletion::EVENTS.bound
select max(n) as number
from (select seq as n
    from events
    where shard_key = $1 and seq > $2
    order by seq
    limit $3) next;

-- project_deletion::EVENTS.delete
delete
from events
where shard_key = $1 and seq > $2 and seq <= $3;

-- project_deletion::PERSONS.bound
select max(n) as number
from (select ordinal as n
    from persons
    where shard_key = $1 and ordinal > $2
    order by ordinal
    limit $3) next;

-- project_deletion::PERSONS.delete
delete
from persons
where shard_key = $1 and ordinal > $2 and ordinal <= $3;

-- project_deletion::DISTINCT_IDS.bound
select max(n) as number
from (select ordinal as n
    from distinct_ids
    where shard_key = $1 and ordinal > $2
    order by ordinal
    limit $3) next;

-- project_deletion::DISTINCT_IDS.delete
delete
from distinct_ids
where shard_key = $1 and ordinal > $2 and ordinal <= $3;

-- project_deletion::TOMBSTONES.bound
select max(n) as number
from (select ordinal as n
    from tombstones
    where shard_key = $1 and ordinal > $2
    order by ordinal
    limit $3) next;

-- project_deletion::TOMBSTONES.delete
delete
from tombstones
where shard_key = $1 and ordinal > $2 and ordinal <= $3;

-- project_deletion::ERASURES.bound
select max(n) as number
from (select ordinal as n
    from erasures
    where shard_key = $1 and ordinal > $2
    order by ordinal
    limit $3) next;

-- project_deletion::ERASURES.delete
delete
from erasures
where shard_key = $1 and ordinal > $2 and ordinal <= $3;

-- project_deletion::PROPERTY_PARTS.bound
select max(n) as number
from (select part as n
    from property_checkpoints
    where shard_key = $1 and part > $2
    order by part
    limit $3) next;

-- project_deletion::PROPERTY_PARTS.delete
delete
from property_checkpoints
where shard_key = $1 and part > $2 and part <= $3;

-- project_deletion::MEMBER_CHUNKS.bound
select max(n) as number
from (select cohort_id as n
    from member_chunks
    where shard_key = $1 and cohort_id > $2
    order by cohort_id
    limit $3) next;

-- project_deletion::MEMBER_CHUNKS.delete
delete
from member_chunks
where shard_key = $1 and cohort_id > $2 and cohort_id <= $3;

-- project_deletion::MEMBER_CHANGES.bound
select max(n) as number
from (select number as n
    from member_changes
    where shard_key = $1 and number > $2
    order by number
    limit $3) next;

-- project_deletion::MEMBER_CHANGES.delete
delete
from member_changes
where shard_key = $1 and number > $2 and number <= $3;

-- project_deletion::COHORT_SIZES.bound
select max(n) as number
from (select cohort_id as n
    from cohort_sizes
    where shard_key = $1 and cohort_id > $2
    order by cohort_id
    limit $3) next;

-- project_deletion::COHORT_SIZES.delete
delete
from cohort_sizes
where shard_key = $1 and cohort_id > $2 and cohort_id <= $3;

-- project_deletion::DELETE_SLICES
delete
from member_change_slices s
using (select cohort_id, version, first_chunk
    from member_change_slices
    where shard_key = $1
    limit $2) old
where s.shard_key = $1 and s.cohort_id = old.cohort_id and s.version = old.version and s.first_chunk = old.first_chunk;

-- project_deletion::DELETE_SEGMENTS
delete
from segments s
using (select event, day, seq, part
    from segments
    where shard_key = $1
    limit $2) old
where s.shard_key = $1 and s.event = old.event and s.day = old.day and s.seq = old.seq and s.part = old.part;
