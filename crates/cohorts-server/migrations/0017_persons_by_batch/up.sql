create index concurrently persons_by_batch on persons (place, batch);
