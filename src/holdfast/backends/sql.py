"""Requests for SQL backends: a `Query` is one statement, written once with `:name` parameters.

A pattern keeps its SQL in `sqlite.sql` and `postgres.sql` beside the modules that use it, as named
statements:

    -- name: acquire
    insert into holdfast_lock ... values (:name, :owner, ...) returning token;

`statements(__file__, "sqlite.sql")` reads such a file once, at import. Two comments have a meaning,
before the first name for the whole file, below a name for that statement alone:

    -- durable      survives a power cut the moment it returns (only SQLite asks; the default may lose
                    the last commits then, but never corrupts)
    -- writes       it changes something although it begins with `select` (it calls a function that does)

Each driver has its own spelling of parameters; a `Statement` knows them all. Values always travel as
bound parameters. So that every driver agrees on them, use text, bytes, bigint and double precision
only, and give PostgreSQL the type where the place does not: `:seconds::float8`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from holdfast.operations import Request

__all__ = ["Query", "Row", "SqlDriver", "Statement", "server_statement_of", "split", "statement_of", "statements"]

T = TypeVar("T")
Row = Sequence[Any]
_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_FLAG = re.compile(r"^-- (durable|writes)\s*$", re.MULTILINE)
_QUOTED = r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
# A parameter is :name, but not the cast ::name, and nothing within quotes or comments.
_PARAMETER = re.compile(rf"{_QUOTED} | (?<![:\w]):(?P<name>[A-Za-z_]\w*)", re.VERBOSE | re.DOTALL)
_SEMICOLON = re.compile(rf"{_QUOTED} | (?P<end>;)", re.VERBOSE | re.DOTALL)
_INERT = re.compile(_QUOTED, re.VERBOSE | re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_READ = re.compile(r"\s*(select|values|with|explain|show)\b", re.IGNORECASE)
_WRITE_WITHIN = re.compile(
    r"\b(insert|update|delete|merge|into|for\s+(no\s+key\s+)?(update|share)|pg_(try_)?advisory\w*|nextval|setval)\b",
    re.IGNORECASE,
)
_CALL = re.compile(r"(?P<schema>\.\s*)?\b(?P<function>\w+)\s*\(")
# What may stand before a parenthesis and certainly writes nothing: PostgreSQL's syntax, then its plain functions.
_HARMLESS = re.compile(
    r"""
    all|and|any|array|as|between|by|case|cast|distinct|else|except|exists|explain|extract|filter|from|group|having|in|
    intersect|is|join|lateral|like|limit|materialized|not|offset|on|or|order|over|partition|row|select|some|then|union|
    using|values|when|where|with|
    abs|array_agg|avg|bool_and|bool_or|ceil|char_length|clock_timestamp|coalesce|concat|count|date_trunc|floor|greatest|
    json_agg|jsonb_agg|least|length|lower|max|min|now|nullif|octet_length|position|power|round|row_number|string_agg|
    substring|sum|to_char|trim|upper
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Statement:
    """One SQL statement in every spelling, and what drivers have to know about it.

    Args:
        name: how messages call it.
        sql: the text with `:name` parameters.
        schema: the folder whose `schema.*.sql` make the tables it needs; None for the user's own SQL.
        durable: it must survive a power cut as soon as it has returned.
        writes: it changes something; None finds out from the text.
    """

    def __init__(
        self,
        name: str,
        sql: str,
        schema: Path | None = None,
        *,
        durable: bool = False,
        writes: bool | None = None,
    ) -> None:
        self.name = name
        self.sql = sql
        self.schema = schema
        self.durable = durable
        self.writes: bool = _writes(sql) if writes is None else writes

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters, each once, in order of first use."""
        found = (match["name"] for match in _PARAMETER.finditer(self.sql))
        return tuple(dict.fromkeys(name for name in found if name))

    @cached_property
    def numbered(self) -> str:
        """`$1` style (asyncpg)."""
        number = {name: position for position, name in enumerate(self.names, start=1)}
        return _PARAMETER.sub(lambda match: f"${number[match['name']]}" if match["name"] else match[0], self.sql)

    @cached_property
    def percent(self) -> str:
        """`%(name)s` style (psycopg)."""
        return _PARAMETER.sub(
            lambda match: f"%({match['name']})s" if match["name"] else match[0], self.sql.replace("%", "%%")
        )

    def positional(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Order `parameters` for the numbered spelling."""
        return [parameters[name] for name in self.names]

    def __repr__(self) -> str:
        return f"Statement({self.name})"


def _writes(sql: str) -> bool:
    bare = _INERT.sub(" ", sql)
    return not _READ.match(bare) or _WRITE_WITHIN.search(bare) is not None


def _calls(sql: str) -> bool:
    """Tell whether it calls a function that may write. A name in quotes, or with a schema, may be anything."""
    calls = _CALL.finditer(_INERT.sub(" _ ", sql))
    return any(call["schema"] or not _HARMLESS.fullmatch(call["function"]) for call in calls)


def statements(package_file: str, file: str) -> dict[str, Statement]:
    """Read the named statements of `file` in the folder of `package_file` (pass `__file__`)."""
    folder = Path(package_file).parent
    preamble, *parts = _NAME.split((folder / file).read_text(encoding="utf-8"))
    general = set(_FLAG.findall(preamble))
    return {name: _statement(name, text, folder, general) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _statement(name: str, text: str, folder: Path, general: set[str]) -> Statement:
    flags = general.union(_FLAG.findall(text))
    sql = _FLAG.sub("", text).strip().rstrip(";")
    return Statement(name, sql, folder, durable="durable" in flags, writes="writes" in flags or None)


@lru_cache(maxsize=512)
def statement_of(sql: str) -> Statement:
    """Return the statement for SQL of the user's own: durable, because nobody said it need not be."""
    return Statement("execute", sql, durable=True)


@lru_cache(maxsize=512)
def server_statement_of(sql: str) -> Statement:
    """Return the same for a server, where a function that a `select` calls may write: it counts as a write.

    A view or an operator that hides such a function is not seen through.
    """
    return Statement("execute", sql, durable=True, writes=_writes(sql) or _calls(sql))


def split(script: str) -> list[str]:
    """Split a script into its statements, without their semicolons; comments stay with what follows."""
    ends = [match.start() for match in _SEMICOLON.finditer(script) if match["end"]]
    starts = [0, *(end + 1 for end in ends)]
    texts = (script[start:end].strip() for start, end in zip(starts, [*ends, len(script)], strict=True))
    return [text for text in texts if _COMMENT.sub("", text).strip()]


def _rows(rows: Sequence[Row]) -> Any:
    return rows


class Query(Request[T]):
    """Carry out one statement and read its rows (tuples) with `decode` (default: the rows as they are)."""

    __slots__ = ("decode", "parameters", "statement")

    def __init__(
        self,
        statement: Statement,
        parameters: Mapping[str, Any],
        decode: Callable[[Sequence[Row]], T] = _rows,
    ) -> None:
        self.statement: Statement = statement
        self.parameters: Mapping[str, Any] = parameters
        self.decode: Callable[[Sequence[Row]], T] = decode

    def carry(self, driver: Any) -> Any:
        """Have `driver` carry the statement out."""
        return cast("SqlDriver", driver).query(self)

    def __repr__(self) -> str:
        return f"Query({self.statement.name})"


class SqlDriver(Protocol):
    """What a driver of a SQL backend adds."""

    def query(self, request: Query[Any]) -> Any:
        """Carry out one statement, in the open transaction if there is one."""
        ...
