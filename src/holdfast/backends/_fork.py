"""After a fork the child must not touch its parent's connections, not even to close them.

A PostgreSQL client that closes says goodbye on the socket that it shares with its parent, and SQLite
tidies up files that the parent still has locked. So what is inherited is leaked on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.forks import first, remember

__all__ = ["first", "leak", "remember"]


def leak(objects: Iterable[object]) -> None:
    """Keep `objects` from ever being destroyed in this process."""
    from ctypes import py_object, pythonapi

    for inherited in objects:
        pythonapi.Py_IncRef(py_object(inherited))
