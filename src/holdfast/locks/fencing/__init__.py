"""Fencing: the resource refuses writers whose lease is over.

No lock service can stop a holder that was paused beyond its lease from writing when it wakes up. Only
the resource can, by remembering the greatest token it has seen:

    A acquires, token 33 ── paused ──────────────────── wakes, writes with 33: refused
                     lease of A ends
                              B acquires, token 34, writes with 34: accepted

Look and write must be one step, else the pause comes between them. So there is a guard for each kind of
resource, and each is one line where the write is:

    FencedTable   rows of your own SQL table that have a column for the token
    Fence         anything that is written in the same SQL transaction
    FencedValue   a value in Redis
    FencedFile    a file
    FenceGuard    something inside one process, such as the server of the resource

Source: Martin Kleppmann, "How to do distributed locking" (2016).
"""

from holdfast.locks.fencing.fence import Fence
from holdfast.locks.fencing.file import FencedFile
from holdfast.locks.fencing.guard import FenceGuard
from holdfast.locks.fencing.table import FencedTable
from holdfast.locks.fencing.value import FencedValue

__all__ = ["Fence", "FenceGuard", "FencedFile", "FencedTable", "FencedValue"]
