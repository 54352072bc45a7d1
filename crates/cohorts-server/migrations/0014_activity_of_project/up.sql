create index activity_of_project on activities (project_id, id desc);
