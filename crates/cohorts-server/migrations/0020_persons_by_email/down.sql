drop index concurrently persons_by_email;
