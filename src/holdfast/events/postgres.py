"""Events on PostgreSQL; the statements are in `postgres.sql`."""

from __future__ import annotations

from holdfast.backends.sql import statements
from holdfast.events._sql import SqlEventLog, SqlInbox, SqlOutbox, SqlQueue

__all__ = ["event_log", "inbox", "outbox", "queue"]

_statements = statements(__file__, "postgres.sql")

event_log: SqlEventLog = SqlEventLog(_statements)
outbox: SqlOutbox = SqlOutbox(_statements)
queue: SqlQueue = SqlQueue(_statements)
inbox: SqlInbox = SqlInbox(_statements)
