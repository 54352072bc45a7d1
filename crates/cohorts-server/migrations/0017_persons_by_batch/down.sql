drop index concurrently persons_by_batch;
