"""Time candidates side by side: many short rounds in random order, and the best and the median of each.

Other work on the machine only ever adds time, and adds it to everybody when rounds are interleaved. So the
figure to compare is the ratio to the floor of the same run.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["Candidate", "measure", "measure_async", "report"]


@dataclass
class Candidate:
    """Something to be timed. `work(calls)` does it so many times."""

    name: str
    work: Callable[[int], object]
    samples: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """Seconds per call in the best round."""
        return min(self.samples)

    @property
    def median(self) -> float:
        """Seconds per call in the median round."""
        return statistics.median(self.samples)


def measure(candidates: list[Candidate], *, calls: int, rounds: int, seed: int = 1) -> None:
    """Time blocking candidates."""
    for candidate in _schedule(candidates, rounds, seed):
        gc.collect()
        begun = time.perf_counter()
        candidate.work(calls)
        candidate.samples.append((time.perf_counter() - begun) / calls)


async def measure_async(candidates: list[Candidate], *, calls: int, rounds: int, seed: int = 1, tasks: int = 1) -> None:
    """Time candidates whose `work(calls)` is a coroutine, `tasks` of them at once."""
    for candidate in _schedule(candidates, rounds, seed):
        gc.collect()
        begun = time.perf_counter()
        work: list[Awaitable[object]] = [candidate.work(calls) for _ in range(tasks)]  # type: ignore[misc]
        await asyncio.gather(*work)
        candidate.samples.append((time.perf_counter() - begun) / (calls * tasks))


def _schedule(candidates: list[Candidate], rounds: int, seed: int) -> list[Candidate]:
    dice = random.Random(seed)
    schedule: list[Candidate] = []
    for _ in range(rounds):
        schedule += dice.sample(candidates, len(candidates))
    return schedule


def report(title: str, candidates: list[Candidate]) -> None:
    """Print a table; the first candidate is the floor."""
    floor = candidates[0]
    print(f"\n{title}")
    print(f"  {'':<44} {'best us':>9} {'median us':>10} {'over floor us':>14} {'x floor':>8}")
    for each in candidates:
        over = (each.median - floor.median) * 1e6
        print(
            f"  {each.name:<44} {each.best * 1e6:9.2f} {each.median * 1e6:10.2f} {over:14.2f} "
            f"{each.median / floor.median:8.2f}"
        )
