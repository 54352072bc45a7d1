drop table sealed_properties;
