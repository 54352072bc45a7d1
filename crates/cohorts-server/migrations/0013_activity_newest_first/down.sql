drop index activity_newest_first;
