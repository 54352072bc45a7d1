alter table persons drop column made_in;
