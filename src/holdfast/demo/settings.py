"""What a run of the demo is asked to do, and what its processes need to know of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = [
    "BULKHEAD_SLOTS",
    "HANG_SECONDS",
    "LONGEST_NAME",
    "PATTERNS",
    "PROVIDER_TIMEOUT",
    "TIERS",
    "Addresses",
    "Settings",
    "Tier",
]

# Most characters of an order's or an account's name. The names of keys, locks and streams are made of them by a
# prefix, and have at most 255.
LONGEST_NAME = 200
# How long a call of the provider takes that hangs, and how long a worker waits for one.
HANG_SECONDS, PROVIDER_TIMEOUT = 20.0, 2.0
# How many calls of the provider a worker may have under way.
BULKHEAD_SLOTS = 8
# What can be left out with --without, and what then goes wrong.
PATTERNS = {
    "breaker": "a provider that is down is called again and again",
    "bulkhead": "one slow dependency gets every call at once",
    "cache": "every read of a balance reaches the service",
    "dedup": "a message that is delivered twice is booked twice",
    "idempotency": "a repeated request gets another answer than the first",
    "lock": "two payers of one order are both charged",
    "outbox": "a payment whose worker dies never reaches the balances",
    "ratelimit": "one client takes more than its share",
    "retry": "a provider's hiccup becomes the client's error",
    "timeout": "a provider that hangs makes the client hang",
}


@dataclass(frozen=True, slots=True)
class Tier:
    """What a kind of customer may ask for: a burst of `capacity`, and `refill_rate` requests/s after it."""

    capacity: int
    refill_rate: float


TIERS = {
    "free": Tier(capacity=8, refill_rate=5.0),
    "standard": Tier(capacity=30, refill_rate=20.0),
    "premium": Tier(capacity=120, refill_rate=80.0),
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is: URLs of stores, ports of processes."""

    database: str
    locks: str
    broker: str
    provider_port: int
    worker_ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """Handed to every process of the demo as a JSON file."""

    folder: Path
    addresses: Addresses
    seed: int = 1
    without: frozenset[str] = field(default_factory=frozenset)

    def uses(self, pattern: str) -> bool:
        """Whether `pattern` is switched on."""
        return pattern not in self.without

    def save(self) -> Path:
        """Write the settings into their folder and return the file."""
        file = self.folder / "settings.json"
        plain = asdict(self) | {"folder": str(self.folder), "without": sorted(self.without)}
        file.write_text(json.dumps(plain))
        file.chmod(0o600)  # the addresses may hold passwords
        return file

    @classmethod
    def load(cls, file: str) -> Settings:
        """Read what `save` wrote."""
        plain = json.loads(Path(file).read_text())
        addresses = plain["addresses"] | {"worker_ports": tuple(plain["addresses"]["worker_ports"])}
        return cls(
            folder=Path(plain["folder"]),
            addresses=Addresses(**addresses),
            seed=plain["seed"],
            without=frozenset(plain["without"]),
        )
