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

-- queue::PUBLISH_REMOVALS
update cohorts c set member_version = keys.version, count = keys.count, attempt = case when c.lease_until is null then greatest(c.attempt, keys.version) else c.attempt end
from unnest($1, $2, $3) as keys(id, version, count)
where c.id = keys.id;
