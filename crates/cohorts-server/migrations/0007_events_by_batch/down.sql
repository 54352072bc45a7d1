drop index events_by_batch;
