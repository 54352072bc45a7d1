alter table forgotten_persons drop column into_number;
