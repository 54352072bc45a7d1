drop table blocks;
drop table sealed_logs;
drop table sealed_people;
