-- Requests with an Idempotency-Key, by the key of the caller and the hash of the header.
-- `fingerprint` is a hash of the request. `request` is the same for each attempt to carry it out. An attempt holds the row until
-- `lease_until`. `committed` is set in the transaction of its effect. A stored response has a `status`. `is_read`: the
-- operation changes nothing.
create table idempotency_keys (
    key_id bigint not null references keys,
    hash bytea not null,
    project_id bigint not null,
    is_read boolean not null,
    fingerprint bytea not null,
    request uuid not null,
    attempt bigint not null,
    created_at timestamptz not null,
    lease_until timestamptz not null,
    committed boolean not null,
    status integer,
    headers json,
    body bytea,
    is_sealed boolean not null,
    primary key (key_id, hash)
);
alter table idempotency_keys alter column hash set storage external;
alter table idempotency_keys alter column fingerprint set storage external;
alter table idempotency_keys alter column body set storage external;
create index idempotency_keys_by_age on idempotency_keys (created_at);
create index idempotency_keys_of_reads on idempotency_keys (project_id) where is_read;
