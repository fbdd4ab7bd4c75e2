-- Fences on SQLite.
-- A fence must survive a power cut as the write does that it guards.
-- durable

-- name: accept
insert into holdfast_fence as kept (resource, token, looked_at)
values (:resource, :token, holdfast_wall())
on conflict (resource) do update set
    token = max(kept.token, excluded.token),
    looked_at = excluded.looked_at
returning token;

-- name: prune
delete from holdfast_fence
where resource in (
    select resource from holdfast_fence
    where looked_at < holdfast_wall() - 30 * 86400
    order by looked_at
    limit 4096
);
