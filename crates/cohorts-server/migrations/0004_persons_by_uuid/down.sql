drop index persons_by_uuid;
