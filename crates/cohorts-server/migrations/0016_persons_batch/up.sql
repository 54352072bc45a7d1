-- The batch of the log in which the person was made or last changed.
alter table persons add column batch bigint not null default 0;
