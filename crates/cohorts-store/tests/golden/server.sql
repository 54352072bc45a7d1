-- health::SETTING
select current_setting($1) as value;

-- health::CLOCK
select clock_timestamp() as time;

-- health::MAY_CHANGE_TABLES
select has_schema_privilege('public', 'create') and not exists (select
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and not pg_has_role(c.relowner, 'usage')) as is_allowed;

-- migrate::CREATE_TRIGRAMS
create extension if not exists pg_trgm;

-- migrate::TRY_LOCK
select pg_try_advisory_lock($1) as is_locked;

-- migrate::SERVER_VERSION
select current_setting('server_version_num')::int as version;

-- migrate::INVALID_INDEXES
select c.relname::text as name
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_class t on t.oid = i.indrelid
where not i.indisvalid and c.relnamespace = 'public'::regnamespace and t.relname in ('persons', 'distinct_ids', 'events', 'tombstones', 'member_chunks', 'cohorts', 'activities', 'calculations') and not exists (select
    from pg_stat_progress_create_index p
    where p.index_relid = i.indexrelid);
