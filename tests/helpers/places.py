"""Where things lie: the checkout, the tests, and real rows that are not part of the project, where somebody has them."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CHECKOUT = TESTS.parent
SHARED = CHECKOUT.parent / "shared"
SHARED_DATA = Path(os.environ.get("SALAD_SHARED_DATA") or SHARED / "data")
