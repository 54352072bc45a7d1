-- An address of any length fits, since it is its digest that is ordered.
create index concurrently persons_by_email on persons (place, md5(properties ->> 'email')) where properties ? 'email';
