alter table persons drop column batch;
