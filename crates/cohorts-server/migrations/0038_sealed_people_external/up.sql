alter table sealed_people alter column data set storage external;
