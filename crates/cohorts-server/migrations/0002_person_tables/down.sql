drop table member_chunks, events, log_heads, person_counters, distinct_ids, persons;
