-- How SQLite carries out idempotency. A lease is measured on the machine's monotonic clock, which starts again with a
-- reboot: a lease that began in the future began before one, and is over. Expiry is by wall clock, because answers
-- are kept for longer than machines run.
--
-- durable

-- name: look
select fingerprint, result from holdfast_idempotency
where identity = :identity and result is not null and expires_at > holdfast_wall();

-- name: claim
insert into holdfast_idempotency
    (identity, scope, endpoint, key, fingerprint, owner, attempt, lease, lease_ends, expires_at)
values
    (:identity, :scope, :endpoint, :key, :fingerprint, :owner, 1, :lease, holdfast_now() + :lease,
     holdfast_wall() + :ttl)
on conflict (identity) do update set
    fingerprint = case
        when excluded.fingerprint = '' and expires_at > holdfast_wall() then fingerprint
        else excluded.fingerprint
    end,
    owner = excluded.owner,
    attempt = case when expires_at > holdfast_wall() then attempt + 1 else 1 end,
    lease = excluded.lease,
    lease_ends = excluded.lease_ends,
    expires_at = excluded.expires_at,
    result = null
where
    (expires_at <= holdfast_wall() and result is not null)
    or (
        result is null
        and (lease_ends <= holdfast_now() or lease_ends - lease > holdfast_now())
        and (
            fingerprint = excluded.fingerprint
            or '' in (fingerprint, excluded.fingerprint)
            or expires_at <= holdfast_wall()
        )
    )
returning attempt;

-- name: blocker
select fingerprint, result, lease_ends - holdfast_now() from holdfast_idempotency
where identity = :identity and (result is null or expires_at > holdfast_wall());

-- name: extend
update holdfast_idempotency
set lease = :lease, lease_ends = holdfast_now() + :lease, expires_at = holdfast_wall() + :ttl
where identity = :identity and owner = :owner and result is null
    and (expires_at > holdfast_wall() or lease_ends > holdfast_now())
returning 1;

-- name: complete
-- In one transaction (lease 0) nobody else could take the claim over, however long it took.
update holdfast_idempotency set result = :result, expires_at = holdfast_wall() + :ttl
where identity = :identity and owner = :owner and result is null
    and (:lease = 0 or expires_at > holdfast_wall() or lease_ends > holdfast_now())
returning 1;

-- name: release
delete from holdfast_idempotency
where identity = :identity and owner = :owner and result is null
    and (expires_at > holdfast_wall() or lease_ends > holdfast_now())
returning 1;

-- name: prune
delete from holdfast_idempotency where identity in (
    select identity from holdfast_idempotency
    where expires_at <= holdfast_wall()
        and (result is not null or lease_ends <= holdfast_now() or lease_ends - lease > holdfast_now())
    limit :limit
)
returning 1;
