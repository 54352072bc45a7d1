//! The tables of the change log.

diesel::table! {
    change_heads (shard_key) {
        shard_key -> Int8,
        number -> Int8,
        published_at -> Timestamptz,
        bytes -> Int8,
        by_minute_through -> Int8,
        by_hour_through -> Int8,
        expired_through -> Int8,
        complete_since -> Timestamptz,
    }
}

diesel::table! {
    member_changes (shard_key, number) {
        shard_key -> Int8,
        number -> Int8,
        cohort_id -> Int8,
        base_version -> Int8,
        version -> Int8,
        attempt -> Int8,
        cause -> Text,
        published_at -> Timestamptz,
        entered -> Int8,
        left -> Int8,
        count -> Int8,
        bytes -> Int8,
    }
}

diesel::table! {
    member_change_slices (shard_key, cohort_id, version, first_chunk) {
        shard_key -> Int8,
        cohort_id -> Int8,
        version -> Int8,
        first_chunk -> Int8,
        entered -> Bytea,
        left -> Bytea,
        reverted -> Bytea,
    }
}

diesel::table! {
    cohort_sizes (shard_key, cohort_id, at) {
        shard_key -> Int8,
        cohort_id -> Int8,
        at -> Timestamptz,
        seconds -> Int8,
        count -> Int8,
        entered -> Int8,
        left -> Int8,
    }
}
