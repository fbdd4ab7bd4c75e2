-- version: 1
-- A row outlives its lease, so that the next token is greater; `prune` removes it a day later.
create table holdfast_lock (
    name text primary key,
    owner text not null,
    token bigint not null,
    expires_at timestamptz not null
) with (fillfactor = 70);

-- A token is about the microsecond of its grant: it finds what is old, and changes only with a grant, so
-- that extending and releasing need not touch an index.
create index holdfast_lock_token on holdfast_lock (token);
