-- Locks on PostgreSQL. Time is always clock_timestamp() of the server, read after the row was locked:
-- now() would be the beginning of the transaction, before the waiting.

-- name: acquire
insert into holdfast_lock as held (name, owner, token, expires_at)
values (
    :name,
    :owner,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint,
    clock_timestamp() + make_interval(secs => :ttl::float8)
)
on conflict (name) do update set
    owner = excluded.owner,
    token = case
        -- The first answer was lost: the same owner asks again and must not get another token.
        when held.owner = excluded.owner and held.expires_at > clock_timestamp() then held.token
        else greatest(held.token + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint)
    end,
    expires_at = clock_timestamp() + make_interval(secs => :ttl::float8)
where held.expires_at <= clock_timestamp() or held.owner = excluded.owner
returning token;

-- name: extend
update holdfast_lock
set expires_at = clock_timestamp() + make_interval(secs => :ttl::float8)
where name = :name and owner = :owner and expires_at > clock_timestamp()
returning token;

-- name: release
update holdfast_lock
set expires_at = clock_timestamp()
where name = :name and owner = :owner and expires_at > clock_timestamp()
returning token;

-- name: peek
select
    owner,
    token,
    extract(epoch from clock_timestamp())::float8 - token / 1000000.0::float8,
    extract(epoch from expires_at - clock_timestamp())::float8
from holdfast_lock
where name = :name and expires_at > clock_timestamp();

-- name: force_release
with held as (
    select owner, token, expires_at
    from holdfast_lock
    where name = :name and expires_at > clock_timestamp()
    for update
)
update holdfast_lock as kept
set expires_at = clock_timestamp()
from held
where kept.name = :name
returning
    held.owner,
    held.token,
    extract(epoch from clock_timestamp())::float8 - held.token / 1000000.0::float8,
    extract(epoch from held.expires_at - clock_timestamp())::float8;

-- name: prune
delete from holdfast_lock
where name in (
    select name from holdfast_lock
    where token < (extract(epoch from clock_timestamp() - interval '1 day') * 1000000)::bigint
        and expires_at <= clock_timestamp()
    order by token
    limit 4096
    for update skip locked
);
