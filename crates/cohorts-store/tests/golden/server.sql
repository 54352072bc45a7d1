-- health::SETTING
select current_setting($1) as value;

-- health::CLOCK
select clock_timestamp() as time;

-- health::DATABASE_BYTES
select pg_database_size(current_database()) as number;

-- health::MAY_CHANGE_TABLES
select has_schema_privilege('public', 'create') and not exists (select
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and not pg_has_role(c.relowner, 'usage')) as is_allowed;

-- distribution::HAS_CITUS
select exists (select
    from pg_extension
    where extname = 'citus') as is_true;

-- POSTPONE_FLUSH
select set_config('synchronous_commit', 'off', true)
where not exists (select
    from pg_extension
    where extname = 'citus');

-- distribution::LOCAL_TABLES
select c.relname::text as name
from unnest($1) with ordinality as t(name, nth)
join pg_class c on c.relname = t.name and c.relnamespace = 'public'::regnamespace
where not exists (select
    from pg_dist_partition p
    where p.logicalrelid = c.oid)
order by t.nth;

-- distribution::TABLES_WITH_LOCAL_ROWS
select c.relname::text as name
from unnest($1) with ordinality as t(name, nth)
join pg_class c on c.relname = t.name and c.relnamespace = 'public'::regnamespace
join pg_dist_partition p on p.logicalrelid = c.oid
where pg_relation_size(c.oid) > 0
order by t.nth;

-- distribution::WORKERS
select nodename::text as host, nodeport as port
from pg_dist_node
where groupid <> 0 and isactive and noderole = 'primary'
order by nodename, nodeport;

-- distribution::ASK_WORKER
select success as is_available, coalesce(result, '') as response
from master_run_on_worker(array[$1], array[$2], array[$3], false);

-- distribution::PLACEMENTS
select key as shard_key, p.nodename::text as host, p.nodeport::int as port
from unnest($1) as key
join pg_dist_shard_placement p on p.shardid = get_shard_id_for_distribution_column('persons', key);

-- distribution::RECOVERY_INTERVAL
select setting::bigint as number
from pg_settings
where name = 'citus.recover_2pc_interval';

-- distribution::BYTES
select coalesce(sum(citus_total_relation_size(p.logicalrelid)), 0)::bigint as number
from pg_dist_partition p;

-- distribution::NODE_CONNINFO
select current_setting('citus.node_conninfo') as name;

-- distribution::IS_WORKER
select exists (select
    from pg_dist_local_group
    where groupid <> 0) as is_true;

-- distribution::SEQUENTIAL
set local citus.multi_shard_modify_mode = 'sequential';

-- distribution::NO_LIMIT
set local statement_timeout = 0;

-- distribution::DISTRIBUTE_FIRST
select create_distributed_table('persons', 'shard_key', colocate_with => 'none', shard_count => 32);

-- distribution::DISTRIBUTE
select create_distributed_table($1::regclass, 'shard_key', colocate_with => 'persons');

-- distribution::TRUNCATE_LOCAL
select truncate_local_data_after_distributing_table($1::regclass);

-- distribution::EXTENSION_OF_WORKER
select extversion
from pg_extension
where extname = 'citus';

-- distribution::PREPARED_OF_WORKER
select current_setting('max_prepared_transactions');

-- distribution::HANGING_OF_WORKER
select count(*)
from pg_prepared_xacts
where gid like 'citus\_%' and database = current_database() and prepared < now() - interval '1 minute';

-- migrate::HAS_TRIGRAMS
select exists (select
    from pg_extension
    where extname = 'pg_trgm') as has_trigrams;

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
