-- version: 1
-- One bucket per row; no row: a full bucket. The room left in pages keeps updates off the index.
create table holdfast_token_bucket (
    name text not null,
    key text not null,
    tokens double precision not null,
    updated_at timestamptz not null,
    -- When the row may go: never before the bucket is full again.
    expires_at timestamptz not null,
    -- Whether the last ask was allowed: how a single statement answers with it.
    granted boolean not null,
    primary key (name, key)
) with (fillfactor = 70);

create index holdfast_token_bucket_expires_at on holdfast_token_bucket (expires_at);
