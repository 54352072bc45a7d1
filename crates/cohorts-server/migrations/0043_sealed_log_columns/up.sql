alter table sealed_logs
    add column properties text not null default '',
    drop constraint sealed_logs_pkey,
    add primary key (place, event, properties);
