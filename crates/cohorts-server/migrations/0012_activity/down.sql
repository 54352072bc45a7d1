drop table activities;
