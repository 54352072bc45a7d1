create index forgotten_persons_by_batch on forgotten_persons (place, batch);
