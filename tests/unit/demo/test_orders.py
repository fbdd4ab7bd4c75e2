"""A file of orders is read as people make them, or refused with one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.demo.orders import read_orders
from holdfast.errors import ConfigurationError


def read(folder: Path, text: str | bytes) -> list[tuple[str, str, int, str]]:
    """Read `text` as a file."""
    file = folder / "orders.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(each.order, each.account, each.amount_cents, each.tier) for each in read_orders(file)]


def test_a_name_may_be_as_long_as_the_service_takes(tmp_path: Path) -> None:
    """Two hundred characters, of any alphabet."""
    assert read(tmp_path, f"order,account,amount\n{'ö' * 200},{'日' * 200},1\n") == [
        ("ö" * 200, "日" * 200, 100, "standard")
    ]


@pytest.mark.parametrize("row", [f"{'x' * 201},a,1", f"1,{'x' * 201},1"])
def test_a_longer_name_is_refused_with_its_line(row: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"line 3: (order|account) must have 1 to 200 characters, not 201"):
        read(tmp_path, f"order,account,amount\n0,a,1\n{row}\n")
