-- The statements of events for PostgreSQL, at the isolation level read committed.
--
-- Numbers are given when a row is written, but the row is seen when its transaction commits, so a later
-- number can be seen first. Readers that follow a cursor therefore go by (txid, position) and stop at
-- pg_snapshot_xmin: every transaction before it is over, so nothing can appear below it any more.

-- name: append
-- The first event decides: whoever has (stream, version + 1) makes rivals wait and then find a conflict,
-- and nobody can have the versions after it. So the rest cannot conflict, and all or none is stored.
with given as (
    select * from json_to_recordset(:events::json)
        as given (n bigint, id uuid, type text, data text, metadata text)
), head as (
    select coalesce(max(version), 0) as version from holdfast_event where stream = :stream::text
), first as (
    insert into holdfast_event (stream, version, id, type, data, metadata)
    select :stream::text, head.version + 1, given.id, given.type, given.data::json, given.metadata::json
    from given, head
    where given.n = 1 and head.version = coalesce(:expected::bigint, head.version)
        and not exists (select 1 from given as again join holdfast_event as stored on stored.id = again.id)
    on conflict do nothing
    returning version
), rest as (
    insert into holdfast_event (stream, version, id, type, data, metadata)
    select :stream::text, first.version + given.n - 1, given.id, given.type, given.data::json, given.metadata::json
    from first, given
    where given.n > 1
    order by given.n
)
select first.version + (select count(*) from given) - 1 from first;

-- name: placed
select '', :stream::text, coalesce(max(version), 0) from holdfast_event where stream = :stream::text
union all
select stored.id::text, stored.stream, stored.version
from json_array_elements_text(:ids::json) as given join holdfast_event as stored on stored.id = given.value::uuid;

-- name: read
select stream, version, id::text, type, data::text, metadata::text,
    extract(epoch from recorded_at)::float8, txid::text, position
from holdfast_event
where stream = :stream and version > :after_version
order by version
limit :limit;

-- name: read_all
select stream, version, id::text, type, data::text, metadata::text,
    extract(epoch from recorded_at)::float8, txid::text, position
from holdfast_event
where (txid, position) > (:transaction::text::xid8, :number::bigint)
    and txid < pg_snapshot_xmin(pg_current_snapshot())
order by holdfast_event.txid, position
limit :limit;

-- name: outbox_add
insert into holdfast_outbox (message_id, topic, key, payload, headers)
values (:message_id, :topic, :key, :payload::text::json, :headers::text::json)
on conflict (topic, message_id) do nothing;

-- name: outbox_batch
select message.position, message.attempts,
    greatest(0, extract(epoch from clock_timestamp() - message.added_at))::float8,
    message.message_id, message.topic, message.key, message.payload::text, message.headers::text
from holdfast_outbox as message
where not exists (
    select 1 from holdfast_outbox as failed
    where failed.retry_at is not null and failed.topic = message.topic and failed.key = message.key
        and (failed.position = message.position or failed.key <> '' and failed.position < message.position)
        and failed.retry_at > now()
)
order by message.position
limit :limit;

-- name: outbox_heads
-- Seldom asked, so that an index for it would cost more than it saves.
with head as (
    select min(position) as position from holdfast_outbox where key <> '' group by topic, key
    union all
    select position from holdfast_outbox where key = ''
)
select message.position, message.attempts,
    greatest(0, extract(epoch from clock_timestamp() - message.added_at))::float8,
    message.message_id, message.topic, message.key, message.payload::text, message.headers::text
from head join holdfast_outbox as message on message.position = head.position
where message.position > :after and (message.retry_at is null or message.retry_at <= now())
order by message.position
limit :limit;

-- name: outbox_remove
delete from holdfast_outbox
where position = any (select value::bigint from json_array_elements_text(:numbers::text::json));

-- name: outbox_refuse
update holdfast_outbox
set attempts = attempts + 1, retry_at = clock_timestamp() + make_interval(secs => :delay::float8)
where position = :number;

-- name: outbox_take
delete from holdfast_outbox where position = :number returning 1;

-- name: outbox_backlog
select count(*), coalesce(greatest(0, extract(epoch from clock_timestamp() - min(added_at))), 0)::float8,
    (select count(*) from holdfast_dead_letter where source = '')
from holdfast_outbox;

-- name: relay_claim
insert into holdfast_relay (id, owner, expires_at)
values (1, :owner, clock_timestamp() + make_interval(secs => :ttl::float8))
on conflict (id) do update set owner = excluded.owner, expires_at = excluded.expires_at
where holdfast_relay.owner = excluded.owner or holdfast_relay.expires_at <= clock_timestamp()
returning 1;

-- name: relay_release
delete from holdfast_relay where owner = :owner;

-- name: dead_add
insert into holdfast_dead_letter (source, topic, key, message_id, payload, headers, attempts, error)
values (:source, :topic, :key, :message_id, :payload::text::json, :headers::text::json, :attempts, :error);

-- name: dead_read
select number, source, attempts, error, extract(epoch from died_at)::float8,
    message_id, topic, key, payload::text, headers::text
from holdfast_dead_letter
where source = coalesce(:source::text, source)
order by number
limit :limit;

-- name: dead_take
delete from holdfast_dead_letter where number = :number
returning number, source, attempts, error, extract(epoch from died_at)::float8,
    message_id, topic, key, payload::text, headers::text;

-- name: queue_publish
insert into holdfast_message (topic, message_id, key, payload, headers)
select given.topic, given.message_id, given.key, given.payload::json, given.headers::json
from json_to_recordset(:messages::text::json)
    as given (n bigint, topic text, message_id text, key text, payload text, headers text)
order by given.n
on conflict (topic, message_id) do nothing;

-- name: queue_peek
select message.txid::text, message.position,
    message.message_id, message.topic, message.key, message.payload::text, message.headers::text
from holdfast_message as message
where message.topic = :topic
    and (message.txid, message.position) > (
        coalesce((select seen.txid from holdfast_subscription as seen
                  where seen.topic = :topic and seen.name = :name), '0'::xid8),
        coalesce((select seen.position from holdfast_subscription as seen
                  where seen.topic = :topic and seen.name = :name), 0))
    and message.txid < pg_snapshot_xmin(pg_current_snapshot())
order by message.txid, message.position
limit :limit;

-- name: queue_subscribe
insert into holdfast_subscription (topic, name, owner, expires_at) values (:topic, :name, '', '-infinity')
on conflict (topic, name) do nothing;

-- name: queue_unsubscribe
delete from holdfast_subscription where topic = :topic and name = :name returning 1;

-- name: queue_claim
insert into holdfast_subscription (topic, name, owner, expires_at)
values (:topic, :name, :owner, clock_timestamp() + make_interval(secs => :ttl::float8))
on conflict (topic, name) do update set owner = excluded.owner, expires_at = excluded.expires_at
where holdfast_subscription.owner = excluded.owner or holdfast_subscription.expires_at <= clock_timestamp()
returning txid::text, position;

-- name: queue_ack
update holdfast_subscription set txid = :transaction::text::xid8, position = :number::bigint
where topic = :topic and name = :name
    and (txid, position) < (:transaction::text::xid8, :number::bigint);

-- name: queue_release
update holdfast_subscription set expires_at = '-infinity'
where topic = :topic and name = :name and owner = :owner;

-- name: queue_prune
-- Only the oldest are looked at: the ones behind them are younger, and a topic may hold millions.
with oldest as (
    select message.txid, message.position, exists (
        select 1 from holdfast_subscription as seen
        where seen.topic = :topic and (seen.txid, seen.position) < (message.txid, message.position)) as unread
    from holdfast_message as message
    where message.topic = :topic
    order by message.txid, message.position
    limit :limit
)
delete from holdfast_message as old using oldest
where old.topic = :topic and old.txid = oldest.txid and old.position = oldest.position
    and (
        not oldest.unread and old.published_at < clock_timestamp() - make_interval(secs => :age::float8)
        or old.published_at < clock_timestamp() - make_interval(secs => :max_age::float8)
    )
returning oldest.unread;

-- name: inbox_open
insert into holdfast_inbox (consumer, topic, message_id)
values (:consumer::text, :topic::text, :message_id)
on conflict (consumer, topic, message_id) do nothing
returning exists (
    select 1 from holdfast_deferred as earlier
    where earlier.consumer = :consumer::text and earlier.topic = :topic::text and earlier.key = :key::text
        and :key::text <> ''
);

-- name: inbox_defer
insert into holdfast_deferred
    (consumer, topic, key, message_id, payload, headers, attempts, retry_at, error)
values (:consumer, :topic, :key, :message_id, :payload::text::json, :headers::text::json, :attempts,
    clock_timestamp() + make_interval(secs => :delay::float8), :error);

-- name: inbox_waiting
select count(*) from (
    select 1 from holdfast_deferred where consumer = :consumer and topic = :topic limit :limit
) as counted;

-- name: inbox_due
with first as (
    select distinct on (key) key, retry_at from holdfast_deferred
    where consumer = :consumer and topic = :topic and key <> ''
    order by key, position
), free as (
    select key from first where retry_at <= now()
)
select waiting.position, waiting.attempts,
    greatest(0, extract(epoch from clock_timestamp() - waiting.deferred_at))::float8,
    waiting.message_id, waiting.topic, waiting.key, waiting.payload::text, waiting.headers::text
from holdfast_deferred as waiting
where waiting.consumer = :consumer and waiting.topic = :topic
    and (waiting.key in (select key from free) or waiting.key = '' and waiting.retry_at <= now())
order by waiting.position
limit :limit;

-- name: inbox_take
delete from holdfast_deferred where position = :number returning 1;

-- name: inbox_put_off
update holdfast_deferred
set attempts = :attempts::bigint, error = :error,
    retry_at = clock_timestamp() + make_interval(secs => :delay::float8)
where position = :number and attempts = :attempts::bigint - 1
returning 1;

-- name: inbox_prune
delete from holdfast_inbox where (consumer, topic, message_id) in (
    select consumer, topic, message_id from holdfast_inbox
    where consumer = :consumer and topic = :topic
        and seen_at < clock_timestamp() - make_interval(secs => :age::float8)
    order by seen_at
    limit :limit
);
