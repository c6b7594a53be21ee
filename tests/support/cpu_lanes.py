"""Two lanes on any machine, however many threads its BLAS has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prefloop.cpu import lanes


@contextmanager
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within, what is scored is divided among two lanes."""
    monkeypatch.setattr(lanes, "most", lambda: 2)
    with lanes.divided():
        yield
