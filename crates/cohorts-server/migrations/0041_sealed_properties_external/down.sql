alter table sealed_properties alter column data set storage extended;
