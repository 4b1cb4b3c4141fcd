"""What the tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from salad_eval.pipeline.engines import EngineChoice, Workshop


@pytest.fixture(scope="session")
def two_processes() -> Iterator[Workshop]:
    """Where models work in two processes, which stay: each takes seconds to import what it needs."""
    with Workshop(EngineChoice(models=2)) as shop:
        yield shop
