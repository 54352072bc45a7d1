-- idempotency::DELETE_EXCESS
delete
from idempotency_keys k
using (select key_id, hash, attempt
    from (select key_id, hash, attempt, row_number() over newer as responses, sum(octet_length(body)) over newer as bytes
        from idempotency_keys
        where status is not null window newer as (partition by key_id
            order by created_at desc, hash)) r
    where responses > $1 or bytes > $2
    limit $3) excess
where k.key_id = excess.key_id and k.hash = excess.hash and k.attempt = excess.attempt;
