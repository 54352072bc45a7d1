-- Replaced by segment_heads. The segments are built again from the rows.
drop table segment_manifests;
