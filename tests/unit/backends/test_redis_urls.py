"""URLs of Redis: what they mean, and what a wrong one is told."""

import traceback

import pytest

from holdfast.backends.redis.urls import Address, parse
from holdfast.errors import ConfigurationError

SECRET = "hunter2"


def meaning(address: Address) -> tuple[object, ...]:
    return address.kind, address.tls, address.hosts, address.db, address.service


@pytest.mark.parametrize(
    ("url", "expected", "place"),
    [
        ("redis://h", ("single", False, (("h", 6379),), 0, ""), "redis://h:6379/0"),
        ("redis://h:1/", ("single", False, (("h", 1),), 0, ""), "redis://h:1/0"),
        ("REDISS://h:1/3", ("single", True, (("h", 1),), 3, ""), "rediss://h:1/3"),
        ("valkeys://u:p@h", ("single", True, (("h", 6379),), 0, ""), "valkeys://h:6379/0"),
        ("redis://[::1]:7/2", ("single", False, (("::1", 7),), 2, ""), "redis://[::1]:7/2"),
        ("redis://h?db=4", ("single", False, (("h", 6379),), 4, ""), "redis://h:6379/4"),
        ("redis+unix:///a/b.sock?db=1", ("unix", False, (), 1, ""), "redis+unix:///a/b.sock"),
        ("redis+cluster://a,b:2", ("cluster", False, (("a", 6379), ("b", 2)), 0, ""), "redis+cluster://a:6379,b:2"),
        ("rediss+cluster://a", ("cluster", True, (("a", 6379),), 0, ""), "rediss+cluster://a:6379"),
        (
            "redis+sentinel://a,b:2/mymaster/5",
            ("sentinel", False, (("a", 26379), ("b", 2)), 5, "mymaster"),
            "redis+sentinel://a:26379,b:2/mymaster/5",
        ),
        ("redis+sentinel://a/m", ("sentinel", False, (("a", 26379),), 0, "m"), "redis+sentinel://a:26379/m/0"),
    ],
)
def test_a_url_is_read(url: str, expected: tuple[object, ...], place: str) -> None:
    assert meaning(parse(url)) == expected
    assert parse(url).place == place


def test_user_and_password_are_percent_decoded_and_hidden() -> None:
    address = parse("redis://us%40er:p%3A%2F%40%25@h/0?client_name=c&max_connections=7&ssl_check_hostname=no")
    assert (address.username, address.password) == ("us@er", "p:/@%")
    assert address.options == {"client_name": "c", "max_connections": 7, "ssl_check_hostname": False}
    assert "us@er" not in repr(address) + address.place
    assert "p:/@%" not in repr(address) + address.place


def test_a_password_alone_has_no_user() -> None:
    assert parse(f"redis://:{SECRET}@h").username is None


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        (f"redis://:{SECRET}@", "HOST"),
        (f"redis://:{SECRET}@h:0", "PORT"),
        (f"redis://:{SECRET}@h:65536", "PORT"),
        (f"redis://:{SECRET}@h:port", "PORT"),
        (f"redis://:{SECRET}@a,b", "one HOST"),
        (f"redis://:{SECRET}@h/zero", "DB"),
        (f"redis://:{SECRET}@h/-1", "DB"),
        (f"redis://:{SECRET}@h?db=-1", "DB"),
        (f"redis://:{SECRET}@h?db=x", "value of db"),
        (f"redis://:{SECRET}@h?max_connections=0", "max_connections"),
        (f"redis://:{SECRET}@h?protocol=4", "protocol"),
        (f"redis://:{SECRET}@h?{SECRET}=1", "OPTION is unknown"),
        # Characters that should have been encoded:
        (f"redis://:a/{SECRET}@h:6379/0", "PORT"),
        (f"redis://:a?{SECRET}@h:6379/0", "OPTION"),
        (f"redis://h h:{SECRET}", "HOST"),
        (f"redis+cluster://:{SECRET}@h/1", "no DB"),
        (f"redis+unix://{SECRET}/socket", "begin with /"),
        (f"redis+unix://:{SECRET}@/", "PATH"),
        (f"redis+sentinel://:{SECRET}@h", "SERVICE"),
        (f"redis+sentinel://:{SECRET}@h/m/x", "SERVICE"),
    ],
)
def test_a_wrong_url_is_told_what_is_legal_and_never_repeated(url: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong) as caught:
        parse(url)
    assert "legal is redis" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value)).replace(url, "")
    assert caught.value.__context__ is None
