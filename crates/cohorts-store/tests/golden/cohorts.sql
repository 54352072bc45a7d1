-- activity::EXCESS_OF_COHORTS
select c.id as owner, (select a.id
    from activities a
    where a.cohort_id = c.id
    order by a.id desc
    offset $2
    limit 1) as newest
from (select id
    from cohorts
    where id > $1
    order by id
    limit $3) c
order by c.id;

-- activity::EXCESS_OF_PROJECTS
select p.id as owner, (select a.id
    from activities a
    where a.project_id = p.id
    order by a.id desc
    offset $2
    limit 1) as newest
from (select id
    from projects
    where id > $1
    order by id
    limit $3) p
order by p.id;

-- history::TIMES
select c.id as cohort, (select started_at
    from calculations
    where cohort_id = c.id
    order by started_at desc
    limit 1) as newest, (select started_at
    from calculations
    where cohort_id = c.id
    order by started_at
    limit 1) as oldest, (select started_at
    from calculations
    where cohort_id = c.id
    order by started_at desc
    offset $2
    limit 1) as newest_excess
from (select id
    from cohorts
    where id > $1
    order by id
    limit $3) c
order by c.id;

-- purge::DELETED_BEFORE
select c.id, c.name
from cohorts c
where c.project_id = $1 and c.deleted and $2 > coalesce(c.deleted_at, (select max(a.created_at)
        from activities a
        where a.cohort_id = c.id and a.activity = 'deleted'), c.created_at)
order by c.id;

-- purge::DELETE_CHUNKS
delete
from member_chunks m
using (select chunk, version
    from member_chunks
    where shard_key = $1 and cohort_id = $2
    limit $3) old
where m.shard_key = $1 and m.cohort_id = $2 and m.chunk = old.chunk and m.version = old.version;
