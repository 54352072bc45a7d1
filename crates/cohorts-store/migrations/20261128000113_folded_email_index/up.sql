drop index concurrently if exists persons_by_folded_email;
