-- The codes that sign a browser in to the console. Only their hashes are stored, and a row is deleted by its use.
-- `key_id` is the session key, which cannot be used before: its hash is void until then.
create table console_codes (
    hash bytea primary key,
    key_id bigint not null references keys,
    expires_at timestamptz not null
);
alter table console_codes alter column hash set storage external;
