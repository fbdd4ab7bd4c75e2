"""The `holdfast` command."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from holdfast.cli import demo, migrate
from holdfast.errors import ConfigurationError, HoldfastError

__all__ = ["main"]

USAGE_ERROR, FAILED, INTERRUPTED, NOBODY_READS = 2, 3, 130, 141
CLOSE_ENOUGH = 0.6
_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)$")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns its exit code.

    2 means that the command line, or a file that it names, is wrong; 3, that the command could not be carried out;
    130, Ctrl-C; 141, that nobody reads the output any more. What 1 means is the command's own.
    """
    try:
        try:
            return _carry_out(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS


def _carry_out(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is None:
        parser.print_help()
        return 0
    try:
        code: int = options.run(options)
    except HoldfastError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return USAGE_ERROR if isinstance(error, ConfigurationError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that recognises slips of the fingers."""

    def error(self, message: str) -> NoReturn:
        super().error(message + _meant(message))


def _meant(message: str) -> str:
    refused = _CHOICE.search(message)
    if refused is None:
        return ""
    choices = [choice.strip("'") for choice in refused[2].split(", ")]
    near = difflib.get_close_matches(refused[1], choices, n=1, cutoff=CLOSE_ENOUGH)
    return f"; did you mean {near[0]!r}?" if near else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="holdfast", description="Keeps a service correct when it has more than one instance.")
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
