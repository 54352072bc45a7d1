drop table calculations, cohorts, key_projects, keys, teammates, projects;
