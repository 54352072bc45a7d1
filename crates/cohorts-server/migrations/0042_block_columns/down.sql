alter table blocks
    drop constraint blocks_pkey,
    drop column properties,
    add primary key (place, event, day);
