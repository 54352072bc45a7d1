//! The tables, as diesel's query builder sees them. The order of columns is the order of the migrations.

mod change_tables;
mod definition_tables;
mod webhook_tables;

pub use change_tables::{change_heads, cohort_sizes, member_change_slices, member_changes};
pub use definition_tables::{definition_checks, definition_heads, definitions};
pub use webhook_tables::{webhook_activities, webhook_deliveries, webhooks};

diesel::table! {
    actions (id) {
        id -> Int8,
        project_id -> Int8,
        name -> Nullable<Text>,
        description -> Text,
        steps -> Json,
        deleted -> Bool,
        created_by -> Nullable<Int8>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    activities (id) {
        id -> Int8,
        project_id -> Int8,
        cohort_id -> Int8,
        teammate_id -> Nullable<Int8>,
        activity -> Text,
        name -> Nullable<Text>,
        changes -> Nullable<Json>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    calculations (id) {
        id -> Int8,
        cohort_id -> Int8,
        version -> Int8,
        attempt -> Int8,
        filters -> Nullable<Json>,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        count -> Nullable<Int8>,
        error_code -> Nullable<Text>,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    cohorts (id) {
        id -> Int8,
        project_id -> Int8,
        name -> Nullable<Text>,
        description -> Text,
        groups -> Json,
        filters -> Nullable<Json>,
        query -> Nullable<Json>,
        deleted -> Bool,
        is_static -> Bool,
        cohort_type -> Nullable<Text>,
        created_by -> Nullable<Int8>,
        created_at -> Timestamptz,
        version -> Nullable<Int8>,
        pending_version -> Nullable<Int8>,
        member_version -> Int8,
        seen_seq -> Int8,
        count -> Nullable<Int8>,
        is_calculating -> Bool,
        last_calculation -> Nullable<Timestamptz>,
        errors_calculating -> Int8,
        attempt -> Int8,
        lease_until -> Nullable<Timestamptz>,
        last_error_code -> Nullable<Text>,
        last_error -> Nullable<Text>,
        fill_pending_criteria -> Bool,
        fill_pending_query -> Bool,
        due_at -> Nullable<Timestamptz>,
        waiting_since -> Nullable<Timestamptz>,
        deleted_at -> Nullable<Timestamptz>,
        criteria_changed -> Bool,
        is_live -> Bool,
        definition_number -> Int8,
    }
}

// The column of `cohorts` that only the passes use: with it, the table above would have more columns than diesel's feature
// `32-column-tables` allows.
diesel::table! {
    #[sql_name = "cohorts"]
    cohort_evaluations (id) {
        id -> Int8,
        evaluation -> Nullable<Json>,
    }
}

diesel::table! {
    console_codes (hash) {
        hash -> Bytea,
        key_id -> Int8,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    distinct_ids (shard_key, distinct_id) {
        shard_key -> Int8,
        distinct_id -> Text,
        ordinal -> Int8,
        seq -> Int8,
    }
}

diesel::table! {
    events (shard_key, uuid, identity, day) {
        shard_key -> Int8,
        uuid -> Uuid,
        identity -> Int8,
        day -> Date,
        seq -> Int8,
        ordinal -> Int8,
        event -> Text,
        distinct_id -> Text,
        timestamp -> Timestamptz,
        properties -> Jsonb,
    }
}

diesel::table! {
    tombstones (shard_key, ordinal) {
        shard_key -> Int8,
        ordinal -> Int8,
        seq -> Int8,
        uuid -> Nullable<Uuid>,
        merged_into -> Nullable<Int8>,
        moved_after -> Nullable<Int8>,
    }
}

diesel::table! {
    idempotency_keys (key_id, hash) {
        key_id -> Int8,
        hash -> Bytea,
        project_id -> Int8,
        is_read -> Bool,
        fingerprint -> Bytea,
        request -> Uuid,
        attempt -> Int8,
        created_at -> Timestamptz,
        lease_until -> Timestamptz,
        committed -> Bool,
        status -> Nullable<Int4>,
        headers -> Nullable<Json>,
        body -> Nullable<Bytea>,
        is_sealed -> Bool,
    }
}

diesel::table! {
    key_projects (key_id, project_id) {
        key_id -> Int8,
        project_id -> Int8,
    }
}

diesel::table! {
    keys (id) {
        id -> Int8,
        hash -> Bytea,
        label -> Text,
        teammate_id -> Int8,
        scopes -> Array<Text>,
        every_project -> Bool,
        created_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        expires_at -> Nullable<Timestamptz>,
        last_used_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    live_projects (project_id) {
        project_id -> Int8,
        owner -> Uuid,
        host -> Text,
        process -> Text,
        semantics -> Int8,
        lease_until -> Timestamptz,
        right_as_of -> Timestamptz,
        seq -> Int8,
    }
}

diesel::table! {
    log_heads (shard_key) {
        shard_key -> Int8,
        seq -> Int8,
    }
}

diesel::table! {
    segments (shard_key, event, day, seq, part) {
        shard_key -> Int8,
        event -> Text,
        day -> Int8,
        seq -> Int8,
        part -> Int8,
        row_count -> Int8,
        data -> Bytea,
        properties -> Bytea,
    }
}

diesel::table! {
    segment_heads (shard_key) {
        shard_key -> Int8,
        through_seq -> Int8,
        claimed_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    person_checkpoints (shard_key) {
        shard_key -> Int8,
        through_seq -> Int8,
        data -> Bytea,
    }
}

diesel::table! {
    property_checkpoints (shard_key, property, part) {
        shard_key -> Int8,
        property -> Text,
        part -> Int8,
        through_seq -> Int8,
        data -> Bytea,
    }
}

diesel::table! {
    erasures (shard_key, ordinal) {
        shard_key -> Int8,
        ordinal -> Int8,
        seq -> Int8,
        events -> Jsonb,
    }
}

diesel::table! {
    rankings (shard_key) {
        shard_key -> Int8,
        through_seq -> Int8,
        version -> Int8,
        buckets -> Int8,
    }
}

diesel::table! {
    ranking_buckets (shard_key, start_time, start_ordinal) {
        shard_key -> Int8,
        start_time -> Int8,
        start_ordinal -> Int8,
        through_seq -> Int8,
        ordinals -> Bytea,
        keys -> Bytea,
    }
}

diesel::table! {
    member_chunks (shard_key, cohort_id, chunk, version) {
        shard_key -> Int8,
        cohort_id -> Int8,
        chunk -> Int8,
        version -> Int8,
        attempt -> Int8,
        members -> Bytea,
    }
}

diesel::table! {
    ordinal_counters (shard_key) {
        shard_key -> Int8,
        next_ordinal -> Int8,
    }
}

diesel::table! {
    persons (shard_key, ordinal) {
        shard_key -> Int8,
        ordinal -> Int8,
        uuid -> Uuid,
        properties -> Jsonb,
        is_identified -> Bool,
        created_at -> Timestamptz,
        seq -> Int8,
        created_seq -> Int8,
    }
}

diesel::table! {
    projects (id) {
        id -> Int8,
        name -> Text,
        time_zone -> Text,
        token -> Text,
        created_at -> Timestamptz,
        event_retention_days -> Nullable<Int4>,
        retention_changes -> Int8,
        deletion_started_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    teammates (id) {
        id -> Int8,
        uuid -> Uuid,
        email -> Text,
        first_name -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    uploads (id) {
        id -> Int8,
        cohort_id -> Int8,
        teammate_id -> Nullable<Int8>,
        created_at -> Timestamptz,
        id_kind -> Text,
        rows -> Int8,
        added -> Int8,
        already_members -> Int8,
        unknown -> Int8,
        bad_rows -> Int8,
        created_people -> Int8,
        removed -> Int8,
        problems -> Json,
        problems_left_out -> Int8,
        delimiter -> Nullable<Text>,
        file_columns -> Nullable<Json>,
    }
}

diesel::joinable!(actions -> projects (project_id));
diesel::joinable!(actions -> teammates (created_by));
diesel::joinable!(activities -> cohorts (cohort_id));
diesel::joinable!(activities -> projects (project_id));
diesel::joinable!(activities -> teammates (teammate_id));
diesel::joinable!(calculations -> cohorts (cohort_id));
diesel::joinable!(cohorts -> projects (project_id));
diesel::joinable!(cohorts -> teammates (created_by));
diesel::joinable!(key_projects -> keys (key_id));
diesel::joinable!(key_projects -> projects (project_id));
diesel::joinable!(keys -> teammates (teammate_id));
diesel::joinable!(uploads -> cohorts (cohort_id));
diesel::joinable!(uploads -> teammates (teammate_id));

diesel::allow_tables_to_appear_in_same_query!(
    actions,
    activities,
    calculations,
    change_heads,
    cohort_sizes,
    cohorts,
    console_codes,
    definition_checks,
    definition_heads,
    definitions,
    distinct_ids,
    erasures,
    events,
    tombstones,
    idempotency_keys,
    key_projects,
    keys,
    live_projects,
    log_heads,
    segments,
    member_change_slices,
    member_changes,
    member_chunks,
    segment_heads,
    person_checkpoints,
    property_checkpoints,
    rankings,
    ranking_buckets,
    ordinal_counters,
    persons,
    projects,
    teammates,
    uploads,
    webhook_activities,
    webhook_deliveries,
    webhooks,
);
