-- events::COUNT_BETWEEN
select count(*) as count
from (select
    from events
    where shard_key = $1 and seq > $2 and seq <= $3
    limit $4) e;

-- events::RANGES_WITH_EVENTS
select r.nth
from unnest($2, $3) with ordinality as r(low, high, nth)
cross join lateral (select 1
    from events
    where shard_key = $1 and uuid >= r.low and uuid <= r.high
    order by shard_key, uuid
    limit 1) e;

-- events::KNOWN
select keys.uuid, keys.identity
from unnest($2, $3) as keys(uuid, identity)
cross join lateral (select 1
    from events
    where shard_key = $1 and uuid = keys.uuid and identity = keys.identity
    order by shard_key, uuid, identity
    limit 1) e;

-- events::SEND_LIMITS
set local citus.propagate_set_commands = 'local';

-- events::LIMIT_LOCK_WAIT
set local lock_timeout = '100ms';

-- events::LIMIT_DURATION
set local statement_timeout = '10s';

-- events::DELETE_OF_PERSONS
delete
from events e
using (select k.*
    from unnest($2) as d(day)
    cross join unnest($3) as o(ordinal)
    cross join lateral (select uuid, identity, day
        from events
        where shard_key = $1 and day = d.day and ordinal = o.ordinal
        offset 0) k) old
where e.shard_key = $1 and e.uuid = old.uuid and e.identity = old.identity and e.day = old.day returning e.ordinal, e.event, e.day, e.properties;

-- events::DELETE_BEFORE
delete
from events e
using (select uuid, identity, day
    from events
    where shard_key = $1 and timestamp < $2
    limit $3) old
where e.shard_key = $1 and e.uuid = old.uuid and e.identity = old.identity and e.day = old.day;

-- segments::SIZES
select day, seq, part, row_count, octet_length(data)::bigint as data, octet_length(properties)::bigint as properties
from segments
where shard_key = $1 and event = $2 and day >= $3 and ($4 is null or day < $4)
order by day, seq, part;

-- segments::READ
select day, seq, part, row_count, data, case when $9 then properties else ''::bytea end as properties
from segments
where shard_key = $1 and event = $2 and (day, seq, part) >= ($3, $4, $5) and (day, seq, part) <= ($6, $7, $8)
order by day, seq, part;

-- segments::NEXT_NAME
select min(event) as name
from segments
where shard_key = $1 and event > $2;

-- segments::CROWDED_DAYS
select event, day
from segments
where shard_key = $1 and row_count < $2 group by event, day having count(*) >= $3
order by count(*) desc, event, day
limit $4;

-- events::HAS_FROM
select count(*) as count
from (select
    from events
    where shard_key = $1 and seq >= $2
    limit 1) e;

-- person_events::OF_PERSON
select e.uuid, e.timestamp, e.event, array(select (e.properties -> key)::text
    from unnest($6) with ordinality as keys(key, nth)
    order by nth) as properties
from unnest($2) as d(day)
cross join unnest($3) as o(ordinal)
cross join lateral (select uuid, timestamp, event, properties
    from events
    where shard_key = $1 and day = d.day and ordinal = o.ordinal
    offset 0) e
where e.timestamp >= $4 and ($5 is null or e.event = any($5));

-- latest_events::LATEST
select e.uuid, e.identity, e.timestamp, e.event, e.distinct_id, e.properties
from unnest($2) as d(day)
cross join unnest($3) as o(ordinal)
cross join lateral (select uuid, identity, timestamp, event, distinct_id, properties
    from events
    where shard_key = $1 and day = d.day and ordinal = o.ordinal
    offset 0) e
where e.timestamp >= $4 and (e.timestamp, e.uuid, e.identity) < ($5, $6, $7) and ($8 is null or e.event = $8)
order by e.timestamp desc, e.uuid desc, e.identity desc
limit $9;

-- scan::EVENTS
select ordinal, timestamp, event, array(select (properties -> key)::text
    from unnest($5) with ordinality as keys(key, nth)
    order by nth) as properties
from events
where shard_key = $1 and event = $2 and timestamp >= $3 and ($4 is null or timestamp < $4) and seq <= $6 and (ordinal between $7 and $8 or ordinal = any($9));

-- scan::EVENTS_BETWEEN
select ordinal, timestamp, event, array(select (properties -> key)::text
    from unnest($5) with ordinality as keys(key, nth)
    order by nth) as properties
from (select *
    from events
    where shard_key = $1 and seq > $2 and seq <= $3
    offset 0) e
where event = any($4);

-- scan::WHOLE_EVENTS
select ordinal, timestamp, event, properties::text as properties
from events
where shard_key = $1 and seq > $2 and seq <= $3;

-- scan::WHOLE_EVENTS_OF_DAY
select ordinal, timestamp, event, properties::text as properties
from events
where shard_key = $1 and event = $2 and timestamp >= $3 and timestamp < $4 and seq <= $5;

-- scan::AFTER_STEP
select min(seq) as seq
from ((select seq
        from events
        where shard_key = $1 and seq > $2 and seq <= $3
        order by seq
        offset $4
        limit 1)
    union all (select seq
        from persons
        where shard_key = $1 and seq > $2 and seq <= $3
        order by seq
        offset $4
        limit 1)) rest;

-- scan::NEXT_NAME
select min(event) as name
from events
where shard_key = $1 and event > $2;
