-- The batch that made the person, while `batch` is the one that wrote them last.
alter table persons add column made_in bigint not null default 0;
