-- Until when a key may be used, and when it was used last, to the minute or so.
alter table keys
    add column expires_at timestamptz,
    add column last_used_at timestamptz;
