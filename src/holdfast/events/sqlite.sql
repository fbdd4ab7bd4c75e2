-- The statements of events for SQLite. Every writing statement runs under the write lock, so what it
-- reads cannot change before it writes. Leases and pauses are on the monotonic clock: a lease that began in
-- the future, or a pause that is longer than any, is from before a reboot, and is over.

-- name: append
-- durable
insert into holdfast_event (stream, version, id, type, data, metadata, recorded_at)
select :stream, head.version + json_extract(given.value, '$.n'),
    json_extract(given.value, '$.id'), json_extract(given.value, '$.type'),
    json_extract(given.value, '$.data'), json_extract(given.value, '$.metadata'), holdfast_wall()
from json_each(:events) as given,
    (select coalesce(max(version), 0) as version from holdfast_event where stream = :stream) as head
where head.version = coalesce(:expected, head.version)
    and not exists (
        select 1 from json_each(:events) as again
        join holdfast_event as stored on stored.id = json_extract(again.value, '$.id')
    )
order by given.key
returning version;

-- name: placed
select '', :stream, coalesce(max(version), 0) from holdfast_event where stream = :stream
union all
select stored.id, stored.stream, stored.version
from json_each(:ids) as given join holdfast_event as stored on stored.id = given.value;

-- name: read
select stream, version, id, type, data, metadata, recorded_at, '0', position
from holdfast_event
where stream = :stream and version > :after_version
order by version
limit :limit;

-- name: read_all
select stream, version, id, type, data, metadata, recorded_at, '0', position
from holdfast_event
where position > :number
order by position
limit :limit;

-- name: outbox_add
-- durable
insert into holdfast_outbox (message_id, topic, key, payload, headers, added_at)
values (:message_id, :topic, :key, :payload, :headers, holdfast_wall())
on conflict (topic, message_id) do nothing;

-- name: outbox_batch
-- One moment for all rows: if time went on in between, what is held up at first would pass at the end.
with clock as materialized (select holdfast_now() as now)
select message.position, message.attempts, max(0.0, holdfast_wall() - message.added_at),
    message.message_id, message.topic, message.key, message.payload, message.headers
from holdfast_outbox as message, clock
where not exists (
    select 1 from holdfast_outbox as failed
    where failed.retry_at is not null and failed.topic = message.topic and failed.key = message.key
        and (failed.position = message.position or failed.key <> '' and failed.position < message.position)
        and failed.retry_at > clock.now and failed.retry_at <= clock.now + :longest
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
select message.position, message.attempts, max(0.0, holdfast_wall() - message.added_at),
    message.message_id, message.topic, message.key, message.payload, message.headers
from head join holdfast_outbox as message on message.position = head.position
where message.position > :after
    and (message.retry_at is null or message.retry_at <= holdfast_now() or message.retry_at > holdfast_now() + :longest)
order by message.position
limit :limit;

-- name: outbox_remove
delete from holdfast_outbox where position in (select value from json_each(:numbers));

-- name: outbox_refuse
update holdfast_outbox set attempts = attempts + 1, retry_at = holdfast_now() + :delay
where position = :number;

-- name: outbox_take
delete from holdfast_outbox where position = :number returning 1;

-- name: outbox_backlog
select count(*), coalesce(max(0.0, holdfast_wall() - min(added_at)), 0.0),
    (select count(*) from holdfast_dead_letter where source = '')
from holdfast_outbox;

-- name: relay_claim
insert into holdfast_relay (id, owner, held_since, expires_at)
values (1, :owner, holdfast_now(), holdfast_now() + :ttl)
on conflict (id) do update set owner = excluded.owner, held_since = excluded.held_since, expires_at = excluded.expires_at
where holdfast_relay.owner = excluded.owner
    or holdfast_relay.expires_at <= holdfast_now()
    or holdfast_relay.held_since > holdfast_now()
returning 1;

-- name: relay_release
delete from holdfast_relay where owner = :owner;

-- name: dead_add
-- durable
insert into holdfast_dead_letter (source, topic, key, message_id, payload, headers, attempts, error, died_at)
values (:source, :topic, :key, :message_id, :payload, :headers, :attempts, :error, holdfast_wall());

-- name: dead_read
select number, source, attempts, error, died_at, message_id, topic, key, payload, headers
from holdfast_dead_letter
where source = coalesce(:source, source)
order by number
limit :limit;

-- name: dead_take
-- durable
delete from holdfast_dead_letter where number = :number
returning number, source, attempts, error, died_at, message_id, topic, key, payload, headers;

-- name: queue_publish
-- durable
insert into holdfast_message (topic, message_id, key, payload, headers, published_at)
select json_extract(given.value, '$.topic'), json_extract(given.value, '$.message_id'),
    json_extract(given.value, '$.key'), json_extract(given.value, '$.payload'),
    json_extract(given.value, '$.headers'), holdfast_wall()
from json_each(:messages) as given
where true
order by given.key
on conflict (topic, message_id) do nothing;

-- name: queue_peek
select '0', message.position,
    message.message_id, message.topic, message.key, message.payload, message.headers
from holdfast_message as message
where message.topic = :topic and message.position > coalesce(
    (select cursor.position from holdfast_subscription as cursor
     where cursor.topic = :topic and cursor.name = :name), 0)
order by message.position
limit :limit;

-- name: queue_subscribe
-- durable
insert into holdfast_subscription (topic, name, owner, held_since, expires_at) values (:topic, :name, '', 0, 0)
on conflict (topic, name) do nothing;

-- name: queue_unsubscribe
-- durable
delete from holdfast_subscription where topic = :topic and name = :name returning 1;

-- name: queue_claim
insert into holdfast_subscription (topic, name, owner, held_since, expires_at)
values (:topic, :name, :owner, holdfast_now(), holdfast_now() + :ttl)
on conflict (topic, name) do update
set owner = excluded.owner, held_since = excluded.held_since, expires_at = excluded.expires_at
where holdfast_subscription.owner = excluded.owner
    or holdfast_subscription.expires_at <= holdfast_now()
    or holdfast_subscription.held_since > holdfast_now()
returning '0', position;

-- name: queue_ack
update holdfast_subscription set position = :number
where topic = :topic and name = :name and position < :number;

-- name: queue_release
update holdfast_subscription set expires_at = 0 where topic = :topic and name = :name and owner = :owner;

-- name: queue_prune
-- Only the oldest are looked at: the ones behind them are younger, and a topic may hold millions.
with oldest as (
    select position, published_at from holdfast_message where topic = :topic order by position limit :limit
)
delete from holdfast_message where position in (
    select oldest.position from oldest
    where oldest.published_at < holdfast_wall() - :max_age
        or oldest.published_at < holdfast_wall() - :age and not exists (
            select 1 from holdfast_subscription as cursor
            where cursor.topic = :topic and cursor.position < oldest.position)
)
returning exists (
    select 1 from holdfast_subscription as cursor
    where cursor.topic = :topic and cursor.position < holdfast_message.position
);

-- name: inbox_open
-- durable
insert into holdfast_inbox (consumer, topic, message_id, seen_at)
values (:consumer, :topic, :message_id, holdfast_wall())
on conflict (consumer, topic, message_id) do nothing
returning exists (
    select 1 from holdfast_deferred as earlier
    where earlier.consumer = :consumer and earlier.topic = :topic and earlier.key = :key and :key <> ''
);

-- name: inbox_defer
-- durable
insert into holdfast_deferred
    (consumer, topic, key, message_id, payload, headers, attempts, retry_at, deferred_at, error)
values (:consumer, :topic, :key, :message_id, :payload, :headers, :attempts,
    holdfast_now() + :delay, holdfast_wall(), :error);

-- name: inbox_waiting
select count(*) from (
    select 1 from holdfast_deferred where consumer = :consumer and topic = :topic limit :limit
);

-- name: inbox_due
-- Beside min() SQLite takes the other columns from the row with the minimum ("Bare columns in an aggregate query").
with first as (
    select key, min(position), retry_at from holdfast_deferred
    where consumer = :consumer and topic = :topic and key <> ''
    group by key
), free as (
    select key from first where retry_at <= holdfast_now() or retry_at > holdfast_now() + :longest
)
select waiting.position, waiting.attempts, max(0.0, holdfast_wall() - waiting.deferred_at),
    waiting.message_id, waiting.topic, waiting.key, waiting.payload, waiting.headers
from holdfast_deferred as waiting
where waiting.consumer = :consumer and waiting.topic = :topic
    and (
        waiting.key in (select key from free)
        or waiting.key = '' and (waiting.retry_at <= holdfast_now() or waiting.retry_at > holdfast_now() + :longest)
    )
order by waiting.position
limit :limit;

-- name: inbox_take
delete from holdfast_deferred where position = :number returning 1;

-- name: inbox_put_off
update holdfast_deferred set attempts = :attempts, retry_at = holdfast_now() + :delay, error = :error
where position = :number and attempts = :attempts - 1
returning 1;

-- name: inbox_prune
delete from holdfast_inbox where (consumer, topic, message_id) in (
    select consumer, topic, message_id from holdfast_inbox
    where consumer = :consumer and topic = :topic and seen_at < holdfast_wall() - :age
    order by seen_at
    limit :limit
);
