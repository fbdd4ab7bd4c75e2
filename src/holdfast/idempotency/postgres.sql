-- How PostgreSQL carries out idempotency. Time is the server's, and the clock's rather than the transaction's, which
-- stands still in a long transaction.

-- name: look
select fingerprint, result from holdfast_idempotency
where identity = :identity and result is not null and expires_at > clock_timestamp();

-- name: claim
-- A transaction that executes holds its key's advisory lock to its end, so another request with the same key finds
-- out at once, and need not occupy a connection to wait for the row. Two keys share a lock with odds of 2^-64 per
-- pair, and then only wait for each other.
insert into holdfast_idempotency as existing
    (identity, scope, endpoint, key, fingerprint, owner, attempt, lease_ends, expires_at)
select
    :identity, :scope, :endpoint, :key, :fingerprint, :owner, 1,
    clock_timestamp() + make_interval(secs => :lease::float8),
    clock_timestamp() + make_interval(secs => :ttl::float8)
where pg_try_advisory_xact_lock((('x' || left(:identity, 16))::bit(64) >> 1)::bigint)
on conflict (identity) do update set
    fingerprint = case
        when excluded.fingerprint = '' and existing.expires_at > clock_timestamp() then existing.fingerprint
        else excluded.fingerprint
    end,
    owner = excluded.owner,
    attempt = case when existing.expires_at > clock_timestamp() then existing.attempt + 1 else 1 end,
    lease_ends = excluded.lease_ends,
    expires_at = excluded.expires_at,
    result = null
where
    (existing.expires_at <= clock_timestamp() and existing.result is not null)
    or (
        existing.result is null
        and existing.lease_ends <= clock_timestamp()
        and (
            existing.fingerprint = excluded.fingerprint
            or '' in (existing.fingerprint, excluded.fingerprint)
            or existing.expires_at <= clock_timestamp()
        )
    )
returning attempt;

-- name: blocker
select fingerprint, result, extract(epoch from lease_ends - clock_timestamp())::float8 from holdfast_idempotency
where identity = :identity and (result is null or expires_at > clock_timestamp());

-- name: extend
update holdfast_idempotency
set
    lease_ends = clock_timestamp() + make_interval(secs => :lease::float8),
    expires_at = clock_timestamp() + make_interval(secs => :ttl::float8)
where identity = :identity and owner = :owner and result is null
    and (expires_at > clock_timestamp() or lease_ends > clock_timestamp())
returning 1;

-- name: complete
-- In one transaction (lease 0) nobody else could take the claim over, however long it took.
update holdfast_idempotency
set result = :result, expires_at = clock_timestamp() + make_interval(secs => :ttl::float8)
where identity = :identity and owner = :owner and result is null
    and (:lease::float8 = 0 or expires_at > clock_timestamp() or lease_ends > clock_timestamp())
returning 1;

-- name: release
delete from holdfast_idempotency
where identity = :identity and owner = :owner and result is null
    and (expires_at > clock_timestamp() or lease_ends > clock_timestamp())
returning 1;

-- name: prune
-- It may be part of a transaction of the user's, which must not come to harm and may stay open. So it waits for no row,
-- and holds the advisory lock of each key that it removes: who claims that key is told at once, as by an execution, and
-- cannot wait for it in a circle. In a serializable transaction that has written before, which is the user's, it does
-- nothing, because what it reads there could make that transaction fail.
--
-- Arrays and statement_timestamp(), which stands still meanwhile, are what makes it use the indexes.
delete from holdfast_idempotency where identity = any (array(
    select identity from holdfast_idempotency
    where
        (current_setting('transaction_isolation') <> 'serializable' or pg_current_xact_id_if_assigned() is null)
        and expires_at <= statement_timestamp()
        and (result is not null or lease_ends <= statement_timestamp())
        and identity = any (array(
            select identity from (
                select identity from holdfast_idempotency
                where
                    expires_at <= statement_timestamp()
                    and (result is not null or lease_ends <= statement_timestamp())
                order by expires_at
                limit :limit::bigint
            ) as expired
            where pg_try_advisory_xact_lock((('x' || left(identity, 16))::bit(64) >> 1)::bigint)
        ))
    for update skip locked
))
returning 1;
