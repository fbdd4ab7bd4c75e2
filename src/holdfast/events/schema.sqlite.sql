-- version: 1

-- AUTOINCREMENT: a number is never used twice, also after deletes. One writer at a time commits, so
-- the numbers become visible in order.
create table holdfast_event (
    position integer primary key autoincrement,
    stream text not null,
    version integer not null,
    id text not null unique,
    type text not null,
    data text not null,
    metadata text not null,
    recorded_at real not null,
    unique (stream, version)
);

create table holdfast_outbox (
    position integer primary key autoincrement,
    message_id text not null,
    topic text not null,
    key text not null,
    payload text not null,
    headers text not null,
    added_at real not null,
    attempts integer not null default 0,
    retry_at real,
    unique (topic, message_id)
);

-- Only the few that failed: they hold up the later ones of their key.
create index holdfast_outbox_retry on holdfast_outbox (topic, key, position) where retry_at is not null;

-- One row: the relay that is active. Since and until when is on the machine's monotonic clock.
create table holdfast_relay (
    id integer primary key check (id = 1),
    owner text not null,
    held_since real not null,
    expires_at real not null
);

create table holdfast_message (
    position integer primary key autoincrement,
    topic text not null,
    message_id text not null,
    key text not null,
    payload text not null,
    headers text not null,
    published_at real not null,
    unique (topic, message_id)
);

create index holdfast_message_topic on holdfast_message (topic, position);

create table holdfast_subscription (
    topic text not null,
    name text not null,
    position integer not null default 0,
    owner text not null,
    held_since real not null,
    expires_at real not null,
    primary key (topic, name)
) without rowid;

create table holdfast_inbox (
    consumer text not null,
    topic text not null,
    message_id text not null,
    seen_at real not null,
    primary key (consumer, topic, message_id)
) without rowid;

create index holdfast_inbox_seen on holdfast_inbox (consumer, topic, seen_at);

create table holdfast_deferred (
    position integer primary key autoincrement,
    consumer text not null,
    topic text not null,
    key text not null,
    message_id text not null,
    payload text not null,
    headers text not null,
    attempts integer not null,
    retry_at real not null,
    deferred_at real not null,
    error text not null
);

create index holdfast_deferred_key on holdfast_deferred (consumer, topic, key, position);

create table holdfast_dead_letter (
    number integer primary key autoincrement,
    source text not null,
    topic text not null,
    key text not null,
    message_id text not null,
    payload text not null,
    headers text not null,
    attempts integer not null,
    error text not null,
    died_at real not null
);
