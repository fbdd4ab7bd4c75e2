-- version: 1
-- One bucket per row; no row: a full bucket. Moments are seconds on the machine's monotonic clock.
create table holdfast_token_bucket (
    name text not null,
    key text not null,
    tokens real not null,
    updated_at real not null,
    -- When the row may go: never before the bucket is full again.
    expires_at real not null,
    -- Whether the last ask was allowed: how a single statement answers with it.
    granted integer not null,
    primary key (name, key)
) without rowid;

create index holdfast_token_bucket_expires_at on holdfast_token_bucket (expires_at);
