"""One run of the demo, from an empty folder to the audit."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from holdfast.demo.audit import audit
from holdfast.demo.books import BooksReader
from holdfast.demo.client import Clients
from holdfast.demo.director import Director
from holdfast.demo.ending import Ending, orderly_end
from holdfast.demo.evidence import Books, Line, ends, failures, read_provider
from holdfast.demo.orders import Order
from holdfast.demo.processes import Fleet, Member, answers_on, fleet, free_ports
from holdfast.demo.settings import Addresses, Settings
from holdfast.demo.stores import stores
from holdfast.demo.view import Snapshot, View, as_json, explained, table
from holdfast.errors import BackendError

__all__ = ["Options", "run"]

WORKERS = 2
START_SECONDS = 30.0
SETTLE_SECONDS = 15.0
LOOK_EVERY = 0.25
# What takes longer is said before it begins.
LONG_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for; see `holdfast demo --help`.

    Attributes:
        must_show_all: whether it is a failure when a fault did not have its turn.
    """

    orders: Sequence[Order]
    must_show_all: bool
    backend: str
    seed: int
    without: frozenset[str]
    serve: bool
    json: bool


def run(options: Options) -> int:
    """Run the demo; 1 when a line of the audit fails, else 0; 128 and the signal's number when one ended it before."""
    with orderly_end() as ending:
        # What happens to a program in C that writes to a pipe whose reader has gone; Python ignores that signal.
        view = View(quiet=options.json, nobody_reads=lambda: ending.end(signal.SIGPIPE))
        try:
            return _run(options, view, ending)
        except KeyboardInterrupt:
            view.end()
            if ending.number != signal.SIGPIPE:
                print(f"holdfast: ended by {ending.name} before the audit", file=sys.stderr)
            return ending.exit_code


def _run(options: Options, view: View, ending: Ending) -> int:
    with _folder() as folder, stores(options.backend, folder, view.say) as urls:
        provider_port, *worker_ports = free_ports(1 + WORKERS)
        addresses = Addresses(*urls, provider_port=provider_port, worker_ports=tuple(worker_ports))
        settings = Settings(folder=folder, addresses=addresses, seed=options.seed, without=options.without)
        with fleet(folder, settings.save()) as processes:
            try:
                lines, seconds, clients = ending.run(_play(options, settings, processes, view))
                _report(options, lines, seconds, clients, processes.kills)
                if options.serve:
                    _keep_serving(settings, view)
            finally:
                ending.too_late()
    return 0 if all(line.ok for line in lines) else 1


async def _play(
    options: Options, settings: Settings, processes: Fleet, view: View
) -> tuple[list[Line], float, Clients]:
    clients = Clients(settings, options.orders)
    _introduce(options, clients, view)
    async with BooksReader(settings) as reader:
        for port, member in _start(settings, processes).items():
            await answers_on(port, seconds=START_SECONDS, member=member)
        begun = time.monotonic()
        director = Director(settings, processes, clients, view)
        # A group waits for what it has cancelled: nothing runs on when this is ended early.
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(
                _watch(clients, director, processes, reader=reader, settings=settings, view=view)
            )
            day = group.create_task(director.run())
            await clients.pay_all()
            await day
            view.say("everybody has paid; the balances catch up")
            await reader.settle(SETTLE_SECONDS)
            watching.cancel()
        view.end()
        books = await _books(options, settings, clients, director, reader)
        return audit(books, settings), time.monotonic() - begun, clients


async def _books(
    options: Options, settings: Settings, clients: Clients, director: Director, reader: BooksReader
) -> Books:
    return Books(
        orders=options.orders,
        clients=clients,
        charges=read_provider(settings.folder / "provider.jsonl"),
        events=await reader.events(),
        balances=await reader.balances(),
        provider=await _provider_figures(settings),
        outage=director.outage,
        cut_at_the_worst=frozenset(director.cut_at_the_worst),
        must_show_all=options.must_show_all,
    )


def _introduce(options: Options, clients: Clients, view: View) -> None:
    without = f", without {', '.join(sorted(options.without))}" if options.without else ""
    view.say(
        f"{len(options.orders)} orders, {WORKERS} workers, backend {options.backend}, seed {options.seed}{without}"
    )
    seconds, why = clients.least_seconds
    if seconds > LONG_SECONDS:
        view.say(f"this needs about {seconds:.0f} s: the payments take so long {why}")


def _start(settings: Settings, processes: Fleet) -> dict[int, Member]:
    """Start everybody; returns who is to listen on which port."""
    addresses = settings.addresses
    listening = {addresses.provider_port: processes.add("provider", "provider", str(addresses.provider_port))}
    for number, port in enumerate(addresses.worker_ports, start=1):
        listening[port] = processes.add(f"worker-{number}", "worker", str(port), f"worker-{number}")
    processes.add("relay", "relay")
    processes.add("consumer", "consumer")
    return listening


async def _watch(
    clients: Clients,
    director: Director,
    processes: Fleet,
    *,
    reader: BooksReader,
    settings: Settings,
    view: View,
) -> None:
    async with httpx.AsyncClient(timeout=0.5) as http:
        while True:
            # A store that is too busy for a look at its backlog is looked at the next time.
            with contextlib.suppress(BackendError):
                view.show(await _snapshot(http, clients, director, processes, reader=reader, settings=settings))
            await asyncio.sleep(LOOK_EVERY)


async def _snapshot(
    http: httpx.AsyncClient,
    clients: Clients,
    director: Director,
    processes: Fleet,
    *,
    reader: BooksReader,
    settings: Settings,
) -> Snapshot:
    keys = {attempt.payment.key for attempt in clients.attempts}
    return Snapshot(
        progress=clients.progress,
        requests=len(clients.attempts),
        repeated=len(clients.attempts) - len(keys),
        refused=ends(clients.attempts)["429 rate-limited"],
        failed=failures(clients.attempts).total(),
        breakers=tuple([await _breaker(http, port) for port in settings.addresses.worker_ports]),
        backlog=await reader.backlog(),
        kills=processes.kills,
        provider=director.provider,
    )


async def _breaker(http: httpx.AsyncClient, port: int) -> str:
    try:
        return str((await http.get(f"http://127.0.0.1:{port}/health")).json()["breaker"])
    except (httpx.TransportError, ValueError, KeyError):
        return "dead"


async def _provider_figures(settings: Settings) -> dict[str, object]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{settings.addresses.provider_port}/figures")
        figures: dict[str, object] = answer.json()
        return figures


def _report(options: Options, lines: list[Line], seconds: float, clients: Clients, kills: int) -> None:
    requests = len(clients.attempts)
    if options.json:
        facts = {"seconds": round(seconds, 2), "requests": requests, "kills": kills}
        print(as_json(lines, **facts, seed=options.seed, backend=options.backend, ends=ends(clients.attempts)))
        return
    terminal = sys.stdout.isatty()
    print(table(lines, color=terminal, columns=shutil.get_terminal_size().columns if terminal else None))
    failed = sum(not line.ok for line in lines)
    verdict = "The books balance." if not failed else f"{failed} of {len(lines)} lines FAIL."
    not_shown = sum(line.verdict == "not shown" for line in lines)
    if not_shown:
        verdict += f"  {not_shown} not shown: these orders gave no occasion."
    print(f"\n{verdict}  {requests} requests, {kills} kills, {seconds:.1f} s, seed {options.seed}.")
    if failed_tries := failures(clients.attempts):
        print(f"{failed_tries.total()} tries failed and were made again: {explained(failed_tries)}.")


def _keep_serving(settings: Settings, view: View) -> None:
    for port in settings.addresses.worker_ports:
        view.say(f"serving http://127.0.0.1:{port}/docs and http://127.0.0.1:{port}/balances")
    view.say("Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="holdfast-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
