"""The tutorial's program runs as its reader runs it: from a file, in a process of its own, on both addresses."""

import os
import re
import subprocess
import sys
from pathlib import Path

from holdfast import connect
from holdfast.backends.migrations import migrate

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-service.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_twice(folder: Path, **addresses: str) -> None:
    """Run the program as often as one likes, which is twice here."""
    program = folder / "payments.py"
    program.write_text("\n".join(BLOCK.findall(PAGE.read_text())))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")} | addresses
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, program], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
            "paid once",
            "the second payer is refused",
            "and a flood is stopped",
        ]


def test_it_runs_on_sqlite(tmp_path: Path) -> None:
    run_twice(tmp_path)
    assert (tmp_path / "shop.db").exists()


def test_it_runs_on_postgresql_and_redis(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    with connect(postgres_url) as backend:
        migrate(backend)
    run_twice(tmp_path, SHOP_DATABASE=postgres_url, SHOP_LOCKS=redis_url)
