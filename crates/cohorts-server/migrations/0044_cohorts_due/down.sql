alter table cohorts
    drop column due_at,
    drop column waiting_since;
