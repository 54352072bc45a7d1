alter table sealed_logs
    drop constraint sealed_logs_pkey,
    drop column properties,
    add primary key (place, event);
