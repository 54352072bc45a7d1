-- Replaced by segments with all names and all properties, which follow the log.
drop table segments;
