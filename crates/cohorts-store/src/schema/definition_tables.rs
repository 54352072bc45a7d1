//! The tables of the catalogue.

diesel::table! {
    definition_checks (shard_key, kind, event, name) {
        shard_key -> Int8,
        kind -> Int2,
        event -> Text,
        name -> Text,
        seq -> Int8,
    }
}

diesel::table! {
    definition_heads (shard_key) {
        shard_key -> Int8,
        through_seq -> Int8,
        version -> Int8,
        is_full -> Bool,
        unfinished -> Array<Int8>,
    }
}

diesel::table! {
    definitions (shard_key, kind, event, name) {
        shard_key -> Int8,
        kind -> Int2,
        event -> Text,
        name -> Text,
        value_kinds -> Int2,
    }
}
