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

-- live::PUBLISH_LIVE
update cohorts c set member_version = keys.version, attempt = greatest(c.attempt, keys.version), count = keys.count, evaluation = keys.evaluation::json, last_calculation = $5, seen_seq = $6, is_live = true, due_at = null
from unnest($1, $2, $3, $4) as keys(id, version, count, evaluation)
where c.id = keys.id;

-- live::JOIN
update cohorts c set is_live = true, due_at = null
from unnest($1, $2) as keys(id, attempt)
where c.id = keys.id and c.attempt = keys.attempt and not c.is_calculating;

-- live::RENEW
update live_projects l set lease_until = $1, right_as_of = greatest(l.right_as_of, keys.right_as_of), seq = greatest(l.seq, keys.seq)
from unnest($3, $4, $5) as keys(project_id, right_as_of, seq)
where l.project_id = keys.project_id and l.owner = $2 returning l.project_id;

-- live::STAMPS
select project_id, (sum(member_version + attempt + coalesce(pending_version, 0)) + count(*))::bigint as cohorts, bool_or(evaluation is not null and not deleted and not is_static) as is_calculated
from cohorts group by project_id
order by project_id;

-- hints::LISTEN
listen cohorts;

-- hints::NOTIFY
select 1
from pg_notify('cohorts', $1);
