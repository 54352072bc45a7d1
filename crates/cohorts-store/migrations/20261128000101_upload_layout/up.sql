-- What each column of an uploaded file was read as. Null for uploads before these columns existed.
alter table uploads add column delimiter text, add column file_columns json;
