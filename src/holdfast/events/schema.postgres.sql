-- version: 1

-- The key is the pair that readers follow: see Position in event.py. `data` is json, not jsonb, because
-- jsonb rewrites numbers and refuses some strings; data->>'name' works for both.
create table holdfast_event (
    txid xid8 not null default pg_current_xact_id(),
    position bigint not null generated always as identity,
    stream text not null,
    version bigint not null,
    id uuid not null unique,
    type text not null,
    data json not null,
    metadata json not null,
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (txid, position),
    unique (stream, version)
);

-- Rows live for moments: vacuum by number of dead rows, not by share of the table.
create table holdfast_outbox (
    position bigint primary key generated always as identity,
    message_id text not null,
    topic text not null,
    key text not null,
    payload json not null,
    headers json not null,
    added_at timestamptz not null default clock_timestamp(),
    attempts bigint not null default 0,
    retry_at timestamptz,
    unique (topic, message_id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Only the few that failed: they hold up the later ones of their key.
create index holdfast_outbox_retry on holdfast_outbox (topic, key, position) where retry_at is not null;

-- One row: the relay that is active.
create table holdfast_relay (
    id bigint primary key check (id = 1),
    owner text not null,
    expires_at timestamptz not null
);

create table holdfast_message (
    txid xid8 not null default pg_current_xact_id(),
    position bigint not null generated always as identity,
    topic text not null,
    message_id text not null,
    key text not null,
    payload json not null,
    headers json not null,
    published_at timestamptz not null default clock_timestamp(),
    primary key (topic, txid, position),
    unique (topic, message_id)
);

create table holdfast_subscription (
    topic text not null,
    name text not null,
    txid xid8 not null default '0',
    position bigint not null default 0,
    owner text not null,
    expires_at timestamptz not null,
    primary key (topic, name)
);

create table holdfast_inbox (
    consumer text not null,
    topic text not null,
    message_id text not null,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (consumer, topic, message_id)
);

create index holdfast_inbox_seen on holdfast_inbox (consumer, topic, seen_at);

create table holdfast_deferred (
    position bigint primary key generated always as identity,
    consumer text not null,
    topic text not null,
    key text not null,
    message_id text not null,
    payload json not null,
    headers json not null,
    attempts bigint not null,
    retry_at timestamptz not null,
    deferred_at timestamptz not null default clock_timestamp(),
    error text not null
);

create index holdfast_deferred_key on holdfast_deferred (consumer, topic, key, position);

create table holdfast_dead_letter (
    number bigint primary key generated always as identity,
    source text not null,
    topic text not null,
    key text not null,
    message_id text not null,
    payload json not null,
    headers json not null,
    attempts bigint not null,
    error text not null,
    died_at timestamptz not null default clock_timestamp()
);
