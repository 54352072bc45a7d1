-- Addresses are compared without blanks around them and without case. The index holds a digest, so an address may have
-- any length.
create index concurrently persons_by_folded_email on persons (shard_key, md5(lower(btrim(properties ->> 'email', E' \t\r\n')))) where properties ? 'email';
