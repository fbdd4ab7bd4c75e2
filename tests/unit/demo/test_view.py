"""What is shown while the demo runs."""

from __future__ import annotations

import io

from holdfast.demo.view import View


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_told_once() -> None:
    """The view falls silent, and whoever runs the demo can end it."""
    gone: list[str] = []
    view = View(Broken(), nobody_reads=lambda: gone.append("gone"))
    view.say("hello")
    view.say("is anybody there?")
    view.end()
    assert gone == ["gone"]
