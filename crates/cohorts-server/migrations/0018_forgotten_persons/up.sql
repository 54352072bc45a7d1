-- People who were deleted, each with the batch of the log that says so. Their numbers are never given out again.
create table forgotten_persons (
    place bigint not null,
    number bigint not null,
    batch bigint not null,
    primary key (place, number)
);
