"""The orders to be paid, from a CSV file with the columns order, account, amount and tier."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from holdfast import checks
from holdfast.demo.settings import LONGEST_NAME, TIERS
from holdfast.errors import ConfigurationError

__all__ = ["SHIPPED", "Order", "read_orders"]

SHIPPED = Path(__file__).with_name("orders.csv")
COLUMNS = ("order", "account", "amount", "tier")
MOST_ORDERS = 100_000
LARGEST_AMOUNT = Decimal(1_000_000)


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
            orders = _read(csv.DictReader(lines), file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"orders file {file}: {error}") from error
    if not orders:
        raise ConfigurationError(f"orders file {file} holds no orders")
    return orders


def _read(rows: csv.DictReader[str], file: Path) -> list[Order]:
    missing = [column for column in COLUMNS[:3] if column not in (rows.fieldnames or ())]
    if missing:
        message = f"orders file {file}: the first line lacks {', '.join(missing)}; it reads {','.join(COLUMNS)}"
        raise ConfigurationError(message)
    orders: dict[str, Order] = {}
    for row in rows:
        try:
            order = _order(row)
            if order.order in orders:
                raise ConfigurationError(f"order={order.order!r} is there twice; each order is paid once")  # noqa: TRY301 - the line is added below
        except ConfigurationError as error:
            raise ConfigurationError(f"orders file {file}, line {rows.line_num}: {error}") from None
        orders[order.order] = order
        if len(orders) > MOST_ORDERS:
            raise ConfigurationError(f"orders file {file} holds more than {MOST_ORDERS} orders")
    return list(orders.values())


def _order(row: dict[str, str]) -> Order:
    tier = row.get("tier") or "standard"
    if tier not in TIERS:
        raise ConfigurationError(f"tier={tier!r} is not legal: give one of {', '.join(TIERS)}")
    return Order(
        order=_name("order", row["order"] or ""),
        account=_name("account", row["account"] or ""),
        amount_cents=_cents(row["amount"] or ""),
        tier=tier,
    )


def _name(column: str, text: str) -> str:
    if not 0 < len(text) <= LONGEST_NAME:
        raise ConfigurationError(f"{column} must have 1 to {LONGEST_NAME} characters, not {len(text)}")
    return checks.key(column, text)


def _cents(text: str) -> int:
    legal = f"a decimal number with at most two places, above 0 and up to {LARGEST_AMOUNT}"
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ConfigurationError(f"amount={text!r} is not legal: give {legal}") from None
    cents = amount * 100
    if not amount.is_finite() or not 0 < amount <= LARGEST_AMOUNT or cents != cents.to_integral_value():
        raise ConfigurationError(f"amount={text!r} is not legal: give {legal}")
    return int(cents)
