"""`holdfast demo`: a payments service under load and real faults whose books balance."""

from __future__ import annotations

import argparse
import importlib.util
import textwrap
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigurationError, MissingExtra

__all__ = ["add_to"]

NEEDED = ("fastapi", "httpx", "uvicorn")


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    from holdfast.demo.settings import PATTERNS
    from holdfast.demo.stores import BACKENDS

    effects = "\n".join(f"  {name:<12} {effect}" for name, effect in PATTERNS.items())
    parser = commands.add_parser(
        "demo",
        help="run a payments service under load and faults, then audit its books",
        description=textwrap.fill(
            "Starts two workers of a payments service, a flaky payment provider, a relay and a consumer; pays "
            "orders over HTTP while workers are killed and the provider is down; then compares everybody's books. "
            "Exits 1 when a line of the audit fails."
        ),
        epilog=f"what goes wrong without a pattern:\n{effects}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--orders", metavar="FILE", type=Path, help="CSV file with order,account,amount[,tier]")
    parser.add_argument("--backend", choices=BACKENDS, default="sqlite", help="where things are kept (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the dice of clients and provider (%(default)s)")
    parser.add_argument(
        "--without", metavar="PATTERN", action="append", default=[], choices=[*PATTERNS], help="leave a pattern out"
    )
    parser.add_argument("--serve", action="store_true", help="keep the service up after the audit")
    parser.add_argument("--json", action="store_true", help="print the audit as JSON and nothing else")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(f'the demo needs {", ".join(missing)}: pip install "holdfast[demo]"')
    if options.json and options.serve:
        raise ConfigurationError("--json prints one document at the end, so it cannot go with --serve")
    from holdfast.demo.orders import SHIPPED, read_orders
    from holdfast.demo.run import Options, run

    return run(
        Options(
            orders=read_orders(options.orders or SHIPPED),
            must_show_all=options.orders is None,
            backend=options.backend,
            seed=options.seed,
            without=frozenset(options.without),
            serve=options.serve,
            json=options.json,
        )
    )
