"""After a fork the child must not touch its parent's connections, not even to close them.

A PostgreSQL client that closes says goodbye on the socket that it shares with its parent, and SQLite
tidies up files that the parent still has locked. So what is inherited is leaked on purpose.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

__all__ = ["first", "leak", "remember"]


class _Inheritable(Protocol):
    def forget_inherited(self) -> None: ...


_remembered: weakref.WeakSet[_Inheritable] = weakref.WeakSet()
_first: list[Callable[[], None]] = []


def remember(owner: _Inheritable) -> None:
    """Have `owner.forget_inherited()` called in every forked child, as long as `owner` lives."""
    _remembered.add(owner)


def first(action: Callable[[], None]) -> None:
    """Have `action` called in every forked child, before those that are remembered."""
    _first.append(action)


def leak(objects: Iterable[object]) -> None:
    """Keep `objects` from ever being destroyed in this process."""
    from ctypes import py_object, pythonapi

    for inherited in objects:
        pythonapi.Py_IncRef(py_object(inherited))


def _after_fork() -> None:
    for action in _first:
        action()
    for owner in list(_remembered):
        owner.forget_inherited()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
