-- definitions::WHOLE_PERSONS
select properties::text as properties
from persons
where shard_key = $1 and seq > $2 and seq <= $3;

-- definitions::EVENT_VALUES
select timestamp, uuid, identity, array(select (properties -> key)::text
    from unnest($3) with ordinality as keys(key, nth)
    order by nth) as values
from events
where shard_key = $1 and event = $2 and ($4 is null or (timestamp, uuid, identity) < ($4, $5, $6))
order by timestamp desc, uuid desc, identity desc
limit $7;

-- definitions::PERSON_VALUES
select ordinal, array(select (properties -> key)::text
    from unnest($2) with ordinality as keys(key, nth)
    order by nth) as values
from persons
where shard_key = $1 and ordinal > $3
order by ordinal
limit $4;
