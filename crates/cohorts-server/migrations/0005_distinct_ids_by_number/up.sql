create index distinct_ids_by_number on distinct_ids (place, number);
