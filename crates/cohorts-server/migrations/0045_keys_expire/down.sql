alter table keys
    drop column expires_at,
    drop column last_used_at;
