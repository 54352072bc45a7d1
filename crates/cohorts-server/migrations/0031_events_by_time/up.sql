-- Events come in about the order of their times, so a summary of each stretch of rows finds the old ones.
create index concurrently events_by_time on events using brin (timestamp) with (autosummarize = on);
