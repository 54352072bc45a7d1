-- How many days a log has blocks of, so that one which is missing is told from one that never was.
alter table sealed_logs add column days bigint not null default 0;
