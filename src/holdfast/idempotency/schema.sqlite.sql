-- version: 1
-- One record per key: claimed while result is null, then stored; what the columns mean is in schema.postgres.sql.
-- lease_ends is monotonic, expires_at since 1970, both in seconds.
create table holdfast_idempotency (
    identity text not null primary key,
    scope text not null,
    endpoint text not null,
    key text not null,
    fingerprint text not null,
    owner text not null,
    attempt integer not null,
    lease real not null,
    lease_ends real not null,
    expires_at real not null,
    result text
) without rowid;

create index holdfast_idempotency_expires_at on holdfast_idempotency (expires_at);
