-- members::NEWEST_CHUNKS
select m.*
from unnest($2, $3) as keys(cohort_id, version)
cross join lateral (select distinct on (chunk) cohort_id, members
    from member_chunks
    where shard_key = $1 and cohort_id = keys.cohort_id and chunk = any($4) and version <= keys.version
    order by chunk, version desc) m;

-- members::NEWER_CHUNKS
select m.*
from unnest($2, $3, $4) as keys(cohort_id, after, version)
cross join lateral (select distinct on (chunk) cohort_id, chunk, members
    from member_chunks
    where shard_key = $1 and cohort_id = keys.cohort_id and version > keys.after and version <= keys.version
    order by chunk, version desc) m;

-- members::ChunksOf
select m.*
from unnest($1, $2) as keys(cohort_id, version)
cross join lateral (select cohort_id, members
    from member_chunks
    where shard_key = $3 and cohort_id = keys.cohort_id and chunk = $4 and version <= keys.version
    order by version desc
    limit 1) m;
