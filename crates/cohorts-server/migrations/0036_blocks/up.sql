-- What calculations read most, ready to be read fast: made of the rows, and made anew wherever it is missing or damaged.
-- Events of one name and UTC day, as who did them when, under the numbers that people had at `head`.
create table blocks (
    place bigint not null,
    event text not null,
    day bigint not null,
    head bigint not null,
    data bytea not null,
    primary key (place, event, day)
);

-- The blocks of a name hold all events of batches up to `head`, from a day on.
create table sealed_logs (
    place bigint not null,
    event text not null,
    head bigint not null,
    from_day bigint not null,
    primary key (place, event)
);

-- Everybody as of a batch.
create table sealed_people (
    place bigint not null,
    head bigint not null,
    data bytea not null,
    primary key (place)
);
