drop index concurrently if exists persons_by_email;
