-- changes::CHUNK_VERSIONS
select m.*
from unnest($2) as keys(cohort_id)
cross join lateral (select cohort_id, version, members
    from member_chunks
    where shard_key = $1 and cohort_id = keys.cohort_id and chunk = $3
    offset 0) m;

-- changes::CLEAR_CHUNKS
delete
from member_chunks m
using unnest($2, $3) as keys(cohort_id, version)
where m.shard_key = $1 and m.cohort_id = keys.cohort_id and m.version > keys.version;

-- changes::CLEAR_SLICES
delete
from member_change_slices s
using unnest($2, $3) as keys(cohort_id, version)
where s.shard_key = $1 and s.cohort_id = keys.cohort_id and s.version > keys.version;

-- changes::UNCLEARED
select keys.cohort_id, keys.version
from unnest($2, $3) as keys(cohort_id, version)
cross join lateral (select
    from ((select
            from member_chunks
            where shard_key = $1 and cohort_id = keys.cohort_id and version > keys.version
            order by shard_key, cohort_id, chunk
            limit 1)
        union all (select
            from member_change_slices
            where shard_key = $1 and cohort_id = keys.cohort_id and version > keys.version
            order by shard_key, cohort_id, version
            limit 1)) rows
    limit 1) uncleared;

-- changes::UNPUBLISHED
select newest.number
from unnest($2, $3) as keys(cohort_id, version)
cross join lateral (select number, version
    from member_changes
    where shard_key = $1 and cohort_id = keys.cohort_id
    order by number desc
    limit 1) newest
where newest.version > keys.version;

-- changes::PRUNE
delete
from member_chunks m
where m.shard_key = $1 and m.cohort_id = $2 and m.chunk = any($3) and exists (select
    from member_chunks newer
    where newer.shard_key = $1 and newer.cohort_id = $2 and newer.chunk = m.chunk and newer.version > m.version and newer.version <= $4);

-- changes::PRUNE_ALL
delete
from member_chunks m
using unnest($2, $3, $4) as keys(cohort_id, chunk, version)
where m.shard_key = $1 and m.cohort_id = keys.cohort_id and m.chunk = keys.chunk and exists (select
    from member_chunks newer
    where newer.shard_key = $1 and newer.cohort_id = keys.cohort_id and newer.chunk = keys.chunk and newer.version > m.version and newer.version <= keys.version);

-- changes::DELETE_CHUNKS
delete
from member_chunks m
using (select chunk, version
    from member_chunks
    where shard_key = $1 and cohort_id = $2
    limit $3) old
where m.shard_key = $1 and m.cohort_id = $2 and m.chunk = old.chunk and m.version = old.version;

-- changes::DELETE_SLICES
delete
from member_change_slices s
using unnest($2, $3) as keys(cohort_id, version)
where s.shard_key = $1 and s.cohort_id = keys.cohort_id and s.version = keys.version and s.first_chunk >= $4 and s.first_chunk < $5;

-- changes::FIRST_MOVES
select keys.nth, m.ordinal, m.merged_into, m.seq
from unnest($2, $3, $4, $5) as keys(nth, ordinal, number, seq)
cross join lateral (select ordinal, merged_into, seq
    from tombstones
    where shard_key = $1 and ordinal = keys.ordinal and moved_after >= keys.number and seq > keys.seq
    union all (select ordinal, merged_into, seq
        from tombstones
        where shard_key = $1 and merged_into = keys.ordinal and moved_after >= keys.number and seq > keys.seq
        order by moved_after, seq
        limit 1)) m;

-- changes::NEWEST_OF_COHORTS
select m.*
from unnest($2, $3) as keys(cohort_id, version)
cross join lateral (select number, cohort_id, base_version, version, attempt, cause, published_at, entered, "left", count, bytes
    from member_changes
    where shard_key = $1 and cohort_id = keys.cohort_id and version <= keys.version
    order by number desc
    limit 1) m;

-- changes::OF_COHORTS
select m.*
from unnest($2) as keys(cohort_id)
cross join lateral (select number, cohort_id, base_version, version, attempt, cause, published_at, entered, "left", count, bytes
    from member_changes
    where shard_key = $1 and cohort_id = keys.cohort_id and number > $3 and number <= $4
    order by number
    limit $5) m
order by m.number
limit $5;

-- changes::SLICES_OF_CHUNK
select s.*
from unnest($2) as keys(version)
cross join lateral (select version, entered, "left"
    from member_change_slices
    where shard_key = $1 and cohort_id = $3 and version = keys.version and first_chunk <= $4
    order by first_chunk desc
    limit 1) s;

-- changes::VERSION_SLICES
select s.*
from unnest($2, $3) as keys(cohort_id, version)
cross join lateral (select cohort_id, version, first_chunk, entered, "left", reverted
    from member_change_slices
    where shard_key = $1 and cohort_id = keys.cohort_id and version = keys.version and first_chunk >= $4 and first_chunk < $5
    offset 0) s
order by s.cohort_id, s.version, s.first_chunk;
