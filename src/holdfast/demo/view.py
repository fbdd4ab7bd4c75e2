"""What the demo shows while it runs, and the table at its end."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from holdfast.demo.client import NO_ANSWER
from holdfast.demo.evidence import Line

__all__ = ["Snapshot", "View", "as_json", "explained", "table"]

GREEN, RED, YELLOW, DIM, BOLD, RESET = "\033[32m", "\033[31m", "\033[33m", "\033[2m", "\033[1m", "\033[0m"
COLORS = {"ok": GREEN, "FAIL": RED, "not shown": YELLOW}
# How a try ended -> what it means.
REASONS = {
    NO_ANSWER: "had no answer (the worker was killed)",
    "503 circuit-open": "met an open circuit",
    "502 provider-failed": "failed at the provider",
    "503 backend-unavailable": "found the store busy",
}
BAR = 16
ERASE_TWO_LINES = "\r\033[K\033[1A\033[K"
LINE_EVERY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How things stand at one moment."""

    progress: float
    requests: int
    repeated: int
    refused: int
    failed: int
    breakers: tuple[str, ...]
    backlog: int
    kills: int
    provider: str


class View:
    """Two live lines on a terminal, a line a second elsewhere, nothing for machines."""

    def __init__(
        self, out: TextIO = sys.stdout, *, quiet: bool = False, nobody_reads: Callable[[], None] = lambda: None
    ) -> None:
        """Write to `out`, or nothing when `quiet`; `nobody_reads` is called when `out` is a pipe without reader."""
        self._out = out
        self._nobody_reads = nobody_reads
        self._quiet = quiet
        self._live = out.isatty()
        self._shown = False
        self._last = 0.0
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._begun

    def say(self, text: str) -> None:
        """Tell that something happened."""
        if not self._quiet:
            self._print(f"{self._erased()}{self.seconds:6.1f} s  {text}\n")

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand."""
        if self._quiet or (not self._live and time.monotonic() - self._last < LINE_EVERY):
            return
        self._last = time.monotonic()
        work, state = _work(snapshot, self.seconds), _state(snapshot)
        if self._live:
            # A line that wraps would leave its rest behind: two lines are erased, whatever is in them.
            width = shutil.get_terminal_size().columns - 1
            self._print(f"{self._erased()}{work[:width]}\n{f'          {state}'[:width]}")
            self._shown = True
        else:
            self._print(f"{work}  {state}\n")

    def end(self) -> None:
        """Take the live lines away."""
        if not self._quiet:
            self._print(self._erased())

    def _erased(self) -> str:
        """What takes the live lines away, if they are there."""
        shown, self._shown = self._shown, False
        return ERASE_TWO_LINES if shown else ""

    def _print(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except BrokenPipeError:
            self._quiet = True
            self._nobody_reads()


def _work(at: Snapshot, seconds: float) -> str:
    done = round(at.progress * BAR)
    return (
        f"{seconds:6.1f} s  [{'#' * done}{'.' * (BAR - done)}] {at.requests:4} requests {at.repeated:4} repeated "
        f"{at.refused:3} refused {at.failed:4} failed"
    )


def _state(at: Snapshot) -> str:
    return f"breakers {'/'.join(at.breakers)}  provider {at.provider}  outbox {at.backlog}  kills {at.kills}"


def table(lines: Sequence[Line], *, color: bool, columns: int | None = None) -> str:
    """The audit as text: a line each, or two where the terminal has fewer `columns` than that needs."""
    paint = _paint if color else _plain
    verdict = max(4, *(len(line.verdict) for line in lines))
    title = max(len(line.title) for line in lines)
    pattern = max(len(line.pattern) for line in lines) + 2
    widest = 6 + verdict + title + pattern + max(len(line.detail) for line in lines)
    between = "  " if columns is None or columns >= widest else f"\n{' ' * (4 + verdict)}"
    rows = [
        f"  {paint(line.verdict.ljust(verdict), COLORS[line.verdict])}  {line.title:<{title}}  "
        f"{paint(f'[{line.pattern}]'.ljust(pattern), DIM)}{between}{line.detail}"
        for line in lines
    ]
    return "\n".join([paint("Audit", BOLD), *rows])


def explained(failures: Mapping[str, int]) -> str:
    """How often a try failed for which reason."""
    return ", ".join(f"{count} {REASONS.get(end, f'ended with {end}')}" for end, count in failures.items())


def as_json(lines: Sequence[Line], **facts: object) -> str:
    """The audit for machines; `ok` says whether no line fails."""
    rows = [
        {"title": line.title, "pattern": line.pattern, "verdict": line.verdict, "detail": line.detail} for line in lines
    ]
    return json.dumps({"ok": all(line.ok for line in lines), **facts, "audit": rows}, indent=2)


def _paint(text: str, color: str) -> str:
    return f"{color}{text}{RESET}"


def _plain(text: str, _: str) -> str:
    return text
