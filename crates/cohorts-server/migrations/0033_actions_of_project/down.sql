drop index actions_of_project;
