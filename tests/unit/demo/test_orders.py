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


@pytest.mark.parametrize(
    "text",
    [
        "order, account, amount, tier\n 1, ann , 3.00, premium\n",
        "\ufefforder,account,amount,tier\r\n1,ann,3,premium\r\n\r\n",
        "note,tier,amount,order,account\nhello,premium,3.000,1,ann\n",
        'order,account,amount,tier\n"1","ann","3.0","premium"',
    ],
    ids=["blanks", "byte order mark", "more columns in another order", "quotes"],
)
def test_a_file_is_read_as_people_and_spreadsheets_make_it(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == [("1", "ann", 300, "premium")]


@pytest.mark.parametrize(
    "amount",
    [
        *("sNaN", "NaN", "Infinity", "1e999999999", "1e2", "1_000", "١٢"),  # Decimal would take, or choke on, these
        *("-1", "+1", "0", "0.00", "1.005", "1000000.01", "9" * 5000),
        *("", ".", "5.", "$5", "12 50", "ten"),
    ],
)
def test_an_amount_is_plain_digits(amount: str, tmp_path: Path) -> None:
    """What Decimal would take beyond that is refused, in one line that says what is legal."""
    with pytest.raises(ConfigurationError, match=r"line 2: amount='.*' is not legal: give a number above 0") as refused:
        read(tmp_path, f"order,account,amount\n1,a,{amount}\n")
    assert len(str(refused.value).replace(str(tmp_path), "")) < 200


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("order,account,amount\n1,Jörg,5\n".encode("latin-1"), "is not UTF-8: save it as UTF-8"),
        ("order,account,amount\n1,a,5\n".encode("utf-16"), "is not UTF-8: save it as UTF-8"),
        ("order;account;amount\n1;a;5\n", "line 1: columns are separated by ';': save it with commas"),
        ("order\taccount\tamount\n1\ta\t5\n", "line 1: columns are separated by '\\t': save it with commas"),
        ("", "line 1: the first line lacks order, account, amount"),
        ("\n\n", "line 1: the first line lacks order, account, amount"),
        ("order,account,amount\n", "line 1: it holds no orders"),
        ("order,account,amount,amount\n1,a,5,6\n", "line 1: the first line names amount twice"),
        ("order,account,amount\n1,a,12,50\n", "line 2: it has 4 columns, the first line has 3"),
        ("order,account,amount\n1,a\n", "line 2: it has 2 columns, the first line has 3"),
        ('order,account,amount\n1,"a,5\n2,b,6\n', "line 3: unexpected end of data"),
        ("order,account,amount\n1,a\0,5\n", "line 2: account='a\\x00' holds a control character"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_to_do(content: str | bytes, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, content)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"orders file .*nowhere\.csv cannot be read: No such file"):
        read_orders(tmp_path / "nowhere.csv")
