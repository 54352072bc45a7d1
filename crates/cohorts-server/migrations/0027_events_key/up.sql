alter table events drop constraint events_pkey, add constraint events_pkey primary key using index events_identity;
