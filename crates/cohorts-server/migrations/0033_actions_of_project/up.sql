create index actions_of_project on actions (project_id, id desc) where not deleted;
