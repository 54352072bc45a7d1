drop index activity_of_project;
