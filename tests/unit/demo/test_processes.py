"""A process that does not start ends the demo with one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.demo.processes import NotStarted, answers_on, fleet, free_ports


async def test_a_member_that_does_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    """The line is the last of its log, the error itself."""
    (port,) = free_ports(1)
    with fleet(tmp_path, tmp_path / "no-settings.json") as processes:
        member = processes.add("worker-1", "worker", str(port), "worker-1")
        with pytest.raises(NotStarted, match=r"^worker-1 did not start: FileNotFoundError: .*no-settings\.json'$"):
            await answers_on(port, seconds=20, member=member)


async def test_a_member_that_said_nothing_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with fleet(tmp_path, tmp_path / "settings.json") as processes:
        member = processes.add("worker-1", "worker")
        member.kill()  # before it could say anything
        with pytest.raises(NotStarted, match=re.escape("worker-1 did not start: it said nothing")):
            await answers_on(port, seconds=20, member=member)
