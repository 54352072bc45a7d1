-- When a cohort is to be looked at again, and since when it waits for its calculation.
alter table cohorts
    add column due_at timestamptz,
    add column waiting_since timestamptz;
