-- Checkpoints are derived from the rows. The next migration creates the table with parts.
drop table property_checkpoints;
