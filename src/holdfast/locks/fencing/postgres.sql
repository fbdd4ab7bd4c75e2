-- Fences on PostgreSQL. The row stays locked until the transaction ends: holders write one after the other.

-- name: accept
insert into holdfast_fence as kept (resource, token, looked_at)
values (:resource, :token, clock_timestamp())
on conflict (resource) do update set
    token = greatest(kept.token, excluded.token),
    looked_at = excluded.looked_at
returning token;

-- name: prune
delete from holdfast_fence
where resource in (
    select resource from holdfast_fence
    where looked_at < clock_timestamp() - interval '30 days'
    order by looked_at
    limit 4096
    for update skip locked
);
