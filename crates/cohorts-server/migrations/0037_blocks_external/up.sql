alter table blocks alter column data set storage external;
