-- version: 1
-- A row outlives its lease, so that the next token is greater; `prune` removes it a day later.
-- granted_at and expires_at are seconds on the machine's monotonic clock.
create table holdfast_lock (
    name text primary key,
    owner text not null,
    token integer not null,
    granted_at real not null,
    expires_at real not null
) without rowid;

-- A token is about the microsecond of its grant, so it finds what is old.
create index holdfast_lock_token on holdfast_lock (token);
