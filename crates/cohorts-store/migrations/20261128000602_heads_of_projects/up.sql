-- Existing cohorts have members from before the change log, so the log of these projects is complete from now on only.
insert into change_heads select id * 65536, 0, now(), 0, 0, 0, 0, now() from projects;
