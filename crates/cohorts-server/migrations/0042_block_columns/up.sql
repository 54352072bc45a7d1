-- Which properties of events a block has columns for, as a JSON list; nothing is none.
alter table blocks
    add column properties text not null default '',
    drop constraint blocks_pkey,
    add primary key (place, event, properties, day);
