-- members::CHUNK_VERSIONS
select m.*
from unnest($2) as keys(cohort_id)
cross join lateral (select cohort_id, version, members
    from member_chunks
    where shard_key = $1 and cohort_id = keys.cohort_id and chunk = $3
    offset 0) m;

-- members::NEWEST_CHUNKS
select m.*
from unnest($2, $3) as keys(cohort_id, version)
cross join lateral (select distinct on (chunk) cohort_id, version, members
    from member_chunks
    where shard_key = $1 and cohort_id = keys.cohort_id and chunk = any($4) and version <= keys.version
    order by chunk, version desc) m;

-- members::MembershipQuery
select p.ordinal, c.id, c.name, c.count, m.members
from persons p
left join cohorts c on not c.deleted and c.project_id = $1
left join lateral (select k.members
    from member_chunks k
    where k.shard_key = p.shard_key and k.cohort_id = c.id and k.chunk = p.ordinal >> 16 and k.version <= c.member_version
    order by k.version desc
    limit 1) m on true
where p.shard_key = $2 and p.uuid = $3
order by c.id;
