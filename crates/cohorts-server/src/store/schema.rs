// @generated automatically by Diesel CLI.

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
        seen_batch -> Int8,
        count -> Nullable<Int8>,
        is_calculating -> Bool,
        last_calculation -> Nullable<Timestamptz>,
        errors_calculating -> Int8,
        retry_at -> Nullable<Timestamptz>,
        attempt -> Int8,
        lease_until -> Nullable<Timestamptz>,
        last_error_code -> Nullable<Text>,
        last_error -> Nullable<Text>,
        owes_criteria -> Bool,
        owes_query -> Bool,
        due_at -> Nullable<Timestamptz>,
        waiting_since -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    distinct_ids (place, distinct_id) {
        place -> Int8,
        distinct_id -> Text,
        number -> Int8,
    }
}

diesel::table! {
    events (place, uuid, day) {
        place -> Int8,
        day -> Date,
        uuid -> Uuid,
        batch -> Int8,
        number -> Int8,
        event -> Text,
        distinct_id -> Text,
        timestamp -> Timestamptz,
        properties -> Jsonb,
    }
}

diesel::table! {
    forgotten_persons (place, number) {
        place -> Int8,
        number -> Int8,
        batch -> Int8,
        into_number -> Nullable<Int8>,
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
    log_heads (place) {
        place -> Int8,
        batch -> Int8,
    }
}

diesel::table! {
    blocks (place, event, properties, day) {
        place -> Int8,
        event -> Text,
        day -> Int8,
        head -> Int8,
        data -> Bytea,
        properties -> Text,
    }
}

diesel::table! {
    sealed_logs (place, event, properties) {
        place -> Int8,
        event -> Text,
        head -> Int8,
        from_day -> Int8,
        properties -> Text,
        days -> Int8,
    }
}

diesel::table! {
    sealed_people (place) {
        place -> Int8,
        head -> Int8,
        data -> Bytea,
    }
}

diesel::table! {
    sealed_properties (place, key) {
        place -> Int8,
        key -> Text,
        head -> Int8,
        data -> Bytea,
    }
}

diesel::table! {
    member_chunks (place, cohort_id, chunk, version) {
        place -> Int8,
        cohort_id -> Int8,
        chunk -> Int8,
        version -> Int8,
        members -> Bytea,
    }
}

diesel::table! {
    person_counters (place) {
        place -> Int8,
        next_number -> Int8,
    }
}

diesel::table! {
    persons (place, number) {
        place -> Int8,
        number -> Int8,
        uuid -> Uuid,
        properties -> Jsonb,
        is_identified -> Bool,
        created_at -> Timestamptz,
        batch -> Int8,
        made_in -> Int8,
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
    cohorts,
    distinct_ids,
    events,
    forgotten_persons,
    key_projects,
    keys,
    log_heads,
    blocks,
    member_chunks,
    sealed_logs,
    sealed_people,
    sealed_properties,
    person_counters,
    persons,
    projects,
    teammates,
    uploads,
);
