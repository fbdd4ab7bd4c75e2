-- version: 1
-- One record per key: claimed while result is null, then stored. The identity is a hash of scope, endpoint and key,
-- which stand beside it for people, and for erasing what belongs to a tenant.
create table holdfast_idempotency (
    identity text not null primary key,
    scope text not null,
    endpoint text not null,
    key text not null,
    -- Of the payload of the first request, or ''.
    fingerprint text not null,
    -- The secret of the request that executes.
    owner text not null,
    attempt integer not null,
    lease_ends timestamptz not null,
    expires_at timestamptz not null,
    result text
);

create index holdfast_idempotency_expires_at on holdfast_idempotency (expires_at);
