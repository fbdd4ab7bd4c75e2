-- Token buckets on PostgreSQL. The upsert locks the row, so asks for one bucket take turns.

-- name: take
-- excluded.updated_at is the server's time when the ask came in, perhaps before it waited for its turn. Time
-- that an earlier turn has already counted must not be counted twice, so updated_at does not go back for it.
-- A stamp that is more than 10 s ahead is no such case: the clock was set back, and the bucket goes on from
-- its tokens and the new time.
insert into holdfast_token_bucket as bucket (name, key, tokens, updated_at, expires_at, granted)
values (
    :name,
    :key,
    :capacity::float8 - :cost::float8,
    clock_timestamp(),
    clock_timestamp() + make_interval(secs => 2 * :capacity::float8 / :refill_rate::float8),
    true
)
on conflict (name, key) do update set
    (tokens, granted) = (
        select
            -- One microsecond early is on time (memory.py, TICK).
            case when level + :refill_rate::float8 * 1e-6 >= :cost::float8 then level - :cost::float8 else level end,
            level + :refill_rate::float8 * 1e-6 >= :cost::float8
        from (
            select least(
                :capacity::float8,
                bucket.tokens + :refill_rate::float8
                    * greatest(0, extract(epoch from excluded.updated_at - bucket.updated_at)::float8)
            ) as level
        ) as refilled
    ),
    updated_at = case
        when bucket.updated_at > excluded.updated_at + interval '10 seconds' then excluded.updated_at
        else greatest(bucket.updated_at, excluded.updated_at)
    end,
    -- Set twice as far ahead as needed, and moved once half of it is over: moving it means an index update.
    expires_at = case
        when bucket.expires_at < excluded.updated_at + (excluded.expires_at - excluded.updated_at) / 2
            then excluded.expires_at
        else bucket.expires_at
    end
returning granted, tokens;

-- name: prune
delete from holdfast_token_bucket
where ctid = any (array(
    select ctid from holdfast_token_bucket
    where expires_at <= clock_timestamp()
    order by expires_at
    limit 4096
    for update skip locked
));
