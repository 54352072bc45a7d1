-- A property of people as of a batch, ready to be read fast like `blocks`.
create table sealed_properties (
    place bigint not null,
    key text not null,
    head bigint not null,
    data bytea not null,
    primary key (place, key)
);
