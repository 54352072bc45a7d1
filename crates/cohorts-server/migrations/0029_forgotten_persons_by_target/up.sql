create index concurrently forgotten_persons_by_target on forgotten_persons (place, into_number) where into_number is not null;
