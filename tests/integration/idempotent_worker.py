"""A process that executes one request, and can stand still in the middle for a test to kill it.

    python idempotent_worker.py URL KEY MODE HOLD

MODE is `transaction` or `lease`. It prints `inside` when it is in the middle, waits there for HOLD seconds, and prints
its answer at the end. What it did to the outside world is a line per charge in the table `charge`.
"""

import sys
import time
from typing import Any

from holdfast import connect
from holdfast.errors import StaleToken
from holdfast.idempotency import idempotency_key, idempotent_execute

LEASE = 1.0


def main(url: str, key: str, mode: str, hold: float) -> None:
    with connect(url, timeout=20.0) as db:
        backend: Any = db

        def write(tx: Any) -> str:
            tx.execute("insert into effect (name) values (:name)", {"name": key})
            inside(hold)
            return "done"

        def charge() -> str:
            # A provider that knows keys: a second charge with the same one changes nothing.
            backend.execute(
                "insert into charge (name) values (:name) on conflict do nothing",
                {"name": idempotency_key("charge", key)},
            )
            inside(hold)
            return "done"

        def record(tx: Any, answer: str) -> None:
            tx.execute("insert into effect (name) values (:name)", {"name": f"{key} {answer}"})

        try:
            if mode == "transaction":
                answer = idempotent_execute(db, key, "/effects", write, wait=20.0)
            else:
                answer = idempotent_execute(db, key, "/effects", charge, commit=record, lease=LEASE, wait=20.0)
        except StaleToken:
            answer = "stale"
        print(answer, flush=True)


def inside(hold: float) -> None:
    print("inside", flush=True)
    time.sleep(hold)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
