drop table forgotten_persons;
