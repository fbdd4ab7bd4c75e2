"""`python -m bench [NAME ...]` runs all measurements, or those named."""

from __future__ import annotations

import importlib
import sys

ALL = ("operations", "resilience")

for name in sys.argv[1:] or ALL:
    importlib.import_module(f"bench.{name}").main()
