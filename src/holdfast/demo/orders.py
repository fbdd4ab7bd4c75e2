"""The orders to be paid, from a CSV file with the columns order, account, amount and tier."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from holdfast import checks
from holdfast.demo.settings import LONGEST_NAME, TIERS
from holdfast.errors import ConfigurationError

__all__ = ["SHIPPED", "Order", "read_orders"]

SHIPPED = Path(__file__).with_name("orders.csv")
COLUMNS = ("order", "account", "amount", "tier")
MOST_ORDERS = 100_000
LARGEST_AMOUNT = Decimal(1_000_000)
VALUE_SHOWN = 40
AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,2}0*)?")


@dataclass(frozen=True, slots=True)
class Order:
    """One order: who pays how much, and what kind of customer it is."""

    order: str
    account: str
    amount_cents: int
    tier: str

    @property
    def api_key(self) -> str:
        """What its account's requests are counted under."""
        return f"{self.tier}-{self.account}"


def read_orders(file: Path) -> list[Order]:
    """Read and check all orders of `file`.

    Raises:
        ConfigurationError: names the file, the line, the column and what is legal.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            orders = _read(lines)
    except UnicodeDecodeError:
        raise ConfigurationError(f"orders file {file} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"orders file {file} cannot be read: {error.strerror}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"orders file {file}, {error}") from None
    return orders


def _read(lines: Iterable[str]) -> list[Order]:
    rows = csv.reader(lines, strict=True)
    orders: dict[str, Order] = {}
    try:
        columns = _columns(next(rows, []))
        for row in rows:
            if row:
                _add(orders, _order(_cells(columns, row)))
    except (ConfigurationError, csv.Error) as error:
        raise ConfigurationError(f"line {max(1, rows.line_num)}: {error}") from None
    if not orders:
        raise ConfigurationError(f"line {rows.line_num}: it holds no orders")
    return list(orders.values())


def _columns(first_line: list[str]) -> list[str]:
    columns = [name.strip() for name in first_line]
    missing = [column for column in COLUMNS[:3] if column not in columns]
    if missing and len(columns) == 1 and (separator := re.search(r"[;\t]", columns[0])):
        raise ConfigurationError(f"columns are separated by {separator[0]!r}: save it with commas")
    if missing:
        raise ConfigurationError(f"the first line lacks {', '.join(missing)}; it reads {','.join(COLUMNS)}")
    twice = [column for column in COLUMNS if columns.count(column) > 1]
    if twice:
        raise ConfigurationError(f"the first line names {', '.join(twice)} twice")
    return columns


def _cells(columns: list[str], row: list[str]) -> dict[str, str]:
    if len(row) != len(columns):
        raise ConfigurationError(f"it has {len(row)} columns, the first line has {len(columns)}")
    return {column: cell.strip() for column, cell in zip(columns, row, strict=True)}


def _add(orders: dict[str, Order], order: Order) -> None:
    if order.order in orders:
        raise ConfigurationError(f"order={order.order!r} is there twice; each order is paid once")
    if len(orders) == MOST_ORDERS:
        raise ConfigurationError(f"it holds more than {MOST_ORDERS} orders")
    orders[order.order] = order


def _order(row: dict[str, str]) -> Order:
    tier = row.get("tier") or "standard"
    if tier not in TIERS:
        raise ConfigurationError(f"tier={tier[:VALUE_SHOWN]!r} is not legal: give one of {', '.join(TIERS)}")
    return Order(
        order=_name("order", row["order"]),
        account=_name("account", row["account"]),
        amount_cents=_cents(row["amount"]),
        tier=tier,
    )


def _name(column: str, text: str) -> str:
    if not 0 < len(text) <= LONGEST_NAME:
        raise ConfigurationError(f"{column} must have 1 to {LONGEST_NAME} characters, not {len(text)}")
    return checks.key(column, text)


def _cents(text: str) -> int:
    # Decimal alone would take 1_000, 1e9, NaN and the digits of other alphabets.
    amount = Decimal(text) if AMOUNT.fullmatch(text) else Decimal(0)
    if not 0 < amount <= LARGEST_AMOUNT:
        legal = f"a number above 0 and up to {LARGEST_AMOUNT}, with at most two decimal places, such as 12.50"
        raise ConfigurationError(f"amount={text[:VALUE_SHOWN]!r} is not legal: give {legal}")
    return int(amount * 100)
