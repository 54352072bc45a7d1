alter table events drop constraint events_pkey, add primary key (place, day, uuid);
