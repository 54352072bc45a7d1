alter table sealed_logs drop column days;
