-- Addresses are compared without white space around them, which is more than the four characters that the previous index
-- removes, and without case. The index holds a digest, so an address may have any length.
create index concurrently persons_by_address on persons (shard_key, md5(lower(btrim(properties ->> 'email', E'\t\n\u000b\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000')))) where properties ? 'email';
