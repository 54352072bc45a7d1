create unique index persons_by_uuid on persons (place, uuid);
