-- Where a person was not deleted but merged into another: the other's number.
alter table forgotten_persons add column into_number bigint;
