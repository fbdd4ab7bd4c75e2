-- Token buckets on SQLite. Time is the monotonic clock, which starts again with a reboot: a bucket that was
-- updated in the future was updated before one, and has had time to fill.
-- A statement reads its clock once it has the write lock; excluded.updated_at is that moment.

-- name: take
insert into holdfast_token_bucket as bucket (name, key, tokens, updated_at, expires_at, granted)
values (
    :name,
    :key,
    :capacity - :cost,
    holdfast_now(),
    holdfast_now() + 2.0 * :capacity / :refill_rate,
    true
)
on conflict (name, key) do update set
    (tokens, granted) = (
        select
            -- One microsecond early is on time (memory.py, TICK).
            case when level + :refill_rate * 1e-6 >= :cost then level - :cost else level end,
            level + :refill_rate * 1e-6 >= :cost
        from (
            select case
                when bucket.updated_at > excluded.updated_at then :capacity
                else min(
                    :capacity, bucket.tokens + :refill_rate * (excluded.updated_at - bucket.updated_at)
                )
            end as level
        )
    ),
    updated_at = excluded.updated_at,
    -- Set twice as far ahead as needed, and moved once half of it is over: moving it means an index update.
    expires_at = case
        when bucket.expires_at between excluded.updated_at + 1.0 * :capacity / :refill_rate and excluded.expires_at
            then bucket.expires_at
        else excluded.expires_at
    end
returning granted, tokens;

-- name: prune
-- Rows of before a reboot go when the machine has been up for as long again.
delete from holdfast_token_bucket
where (name, key) in (
    select name, key from holdfast_token_bucket
    where expires_at <= holdfast_now()
    order by expires_at
    limit 4096
);
