drop index distinct_ids_by_number;
