drop index events_by_name;
