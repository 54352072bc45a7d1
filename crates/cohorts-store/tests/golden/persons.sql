-- persons::ids::BY_ID
select d.*
from unnest($2) as keys(id)
cross join lateral (select i.distinct_id, p.ordinal, p.uuid
    from distinct_ids i
    join persons p on p.shard_key = $1 and p.ordinal = i.ordinal
    where i.shard_key = $1 and i.distinct_id = keys.id
    offset 0) d;

-- persons::BY_UUID
select p.*
from unnest($2) as keys(uuid)
cross join lateral (select uuid, ordinal
    from persons
    where shard_key = $1 and uuid = keys.uuid
    offset 0) p;

-- persons::addresses::BY_EMAIL
select keys.email, p.ordinal
from (select distinct unnest($2) as email) as keys
cross join lateral (select ordinal
    from persons
    where shard_key = $1 and properties ? 'email' and md5(lower(btrim(properties ->> 'email', E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'))) = md5(lower(btrim(keys.email, E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'))) and lower(btrim(properties ->> 'email', E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000')) = lower(btrim(keys.email, E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'))
    offset 0) p;

-- persons::addresses::FIRST_SPELLINGS
select email, first_value(email) over (partition by lower(btrim(email, E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'))
    order by number) as first
from unnest($1) with ordinality as keys(email, number);

-- persons::ids::OWNERS
select d.*
from unnest($2) as keys(id)
cross join lateral (select distinct_id, ordinal, exists (select
        from persons p
        where p.shard_key = $1 and p.ordinal = i.ordinal) as is_person
    from distinct_ids i
    where shard_key = $1 and distinct_id = keys.id
    offset 0) d;

-- persons::ids::COUNT_IDS
select keys.ordinal, d.count
from unnest($2) as keys(ordinal)
cross join lateral (select count(*) as count
    from (select
        from distinct_ids
        where shard_key = $1 and ordinal = keys.ordinal
        limit $3) i) d;

-- persons::MOVE_IDS
update distinct_ids d set ordinal = m.survivor, seq = $4
from unnest($2, $3) as m(ordinal, survivor)
where d.shard_key = $1 and d.ordinal = m.ordinal;

-- persons::SEARCH
select ordinal
from persons
where shard_key = $1 and (properties ->> 'email' ilike $2 or properties ->> 'name' ilike $2)
union select ordinal
from distinct_ids
where shard_key = $1 and distinct_id ilike $2;

-- persons::page::SIZES
select r.*
from unnest($2) as keys(ordinal)
cross join lateral (select ordinal as id, octet_length(properties::text) as bytes
    from persons
    where shard_key = $1 and ordinal = keys.ordinal
    offset 0) r;

-- persons::property_names::PROPERTY_NAMES
select k.name
from persons p
cross join lateral jsonb_object_keys(p.properties) as k(name)
where p.shard_key = $1 and p.ordinal = any($2) group by k.name
order by count(*) desc, k.name collate "C"
limit $3;

-- scan::PROPERTY
select ordinal, (properties -> $2)::text as value
from persons
where shard_key = $1 and ordinal between $3 and $4 and properties ? $2;

-- scan::PROPERTIES
select ordinal, properties::text as value
from persons
where shard_key = $1 and ordinal between $2 and $3;

-- scan::CHANGED_PERSONS
select ordinal, created_at, array(select (properties -> key)::text
    from unnest($3) with ordinality as keys(key, nth)
    order by nth) as properties
from persons
where shard_key = $1 and seq > $2 and seq <= $4
order by seq;

-- columns::CHANGES_BY_PART
select part, count(*) as count
from (select ordinal >> $3 as part
    from persons
    where shard_key = $1 and seq > $2
    union all select ordinal >> $3 as part
    from tombstones
    where shard_key = $1 and seq > $2) c group by part;

-- persons::ByOrdinals<PersonRows>
select r.*
from unnest($1) as keys(ordinal)
cross join lateral (select ordinal, uuid, properties, is_identified, created_at
    from persons
    where shard_key = $2 and ordinal = keys.ordinal
    offset 0) r
order by r.created_at desc, r.ordinal desc;

-- persons::page::RowsWithin
select r.ordinal, r.uuid, r.properties, r.is_identified, r.created_at
from (select p.*, keys.nth, sum(octet_length(p.properties::text)) over (order by keys.nth) as bytes
    from unnest($1) with ordinality as keys(ordinal, nth)
    cross join lateral (select ordinal, uuid, properties, is_identified, created_at
        from persons
        where shard_key = $2 and ordinal = keys.ordinal
        offset 0) p) r
where r.bytes <= $3
order by r.nth;

-- persons::ByOrdinals<ShownIds>
select r.*
from unnest($1) as keys(ordinal)
cross join lateral (select ordinal, distinct_id
    from distinct_ids
    where shard_key = $2 and ordinal = keys.ordinal
    order by distinct_id
    limit 10) r;
