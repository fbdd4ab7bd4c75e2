-- Locks on SQLite. Leases are timed by the monotonic clock, which starts again with a reboot: a lease
-- that was granted in the future was granted before one, and is over.
-- A statement reads its clock once it has the write lock; excluded.granted_at is that moment.

-- name: acquire
insert into holdfast_lock as held (name, owner, token, granted_at, expires_at)
values (
    :name,
    :owner,
    cast(holdfast_wall() * 1000000 as integer),
    holdfast_now(),
    holdfast_now() + :ttl
)
on conflict (name) do update set
    owner = excluded.owner,
    token = case
        -- The first answer was lost: the same owner asks again and must not get another token.
        when held.owner = excluded.owner
            and held.expires_at > excluded.granted_at
            and held.granted_at <= excluded.granted_at
        then held.token
        else max(held.token + 1, excluded.token)
    end,
    granted_at = excluded.granted_at,
    expires_at = excluded.expires_at
where held.owner = excluded.owner
    or held.expires_at <= excluded.granted_at
    or held.granted_at > excluded.granted_at
returning token;

-- name: extend
update holdfast_lock
set expires_at = holdfast_now() + :ttl
where name = :name and owner = :owner and expires_at > holdfast_now() and granted_at <= holdfast_now()
returning token;

-- name: release
update holdfast_lock
set expires_at = holdfast_now()
where name = :name and owner = :owner and expires_at > holdfast_now() and granted_at <= holdfast_now()
returning token;

-- name: peek
select owner, token, holdfast_now() - granted_at, expires_at - holdfast_now()
from holdfast_lock
where name = :name and expires_at > holdfast_now() and granted_at <= holdfast_now();

-- What is left of it is 0 here: RETURNING knows the new row only.
-- name: force_release
update holdfast_lock
set expires_at = holdfast_now()
where name = :name and expires_at > holdfast_now() and granted_at <= holdfast_now()
returning owner, token, holdfast_now() - granted_at, 0.0;

-- name: prune
delete from holdfast_lock
where name in (
    select name from holdfast_lock
    where token < cast((holdfast_wall() - 86400) * 1000000 as integer)
        and (expires_at <= holdfast_now() or granted_at > holdfast_now())
    order by token
    limit 4096
);
