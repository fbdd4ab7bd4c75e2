"""The `holdfast` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from holdfast.cli import demo, migrate
from holdfast.errors import HoldfastError

__all__ = ["main"]

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns its exit code. 2 means that the command line was wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is None:
        parser.print_help()
        return 0
    try:
        code: int = options.run(options)
    except HoldfastError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast", description="Keeps a service correct when it has more than one instance."
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo.add_to(commands)
    migrate.add_to(commands)
    return parser


class _Version(argparse.Action):
    """Print the version; importlib.metadata costs 30 ms, so only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"holdfast {version('holdfast')}")
        parser.exit()
