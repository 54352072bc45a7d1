-- keys::AccessQuery
select k.id, k.last_used_at, k.expires_at, k.scopes, r.ids, t.id, t.uuid, t.email, t.first_name, t.created_at, p.id, p.name, p.time_zone, p.token, p.created_at, p.event_retention_days, p.retention_changes
from keys k
join teammates t on t.id = k.teammate_id
cross join lateral (select case when k.every_project then null else array(select kp.project_id
        from key_projects kp
        where kp.key_id = k.id
        order by 1) end as ids) r
left join projects p on p.deletion_started_at is null and p.id = coalesce($1, case when k.every_project then (select min(id)
        from projects
        where deletion_started_at is null) else r.ids[1] end)
where k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and k.hash = $2;
