-- The number of the last change before a survivor left this ordinal for that of the merged person; null without a move.
-- Earlier changes of both ordinals name their persons by it.
alter table tombstones add column moved_after bigint;
