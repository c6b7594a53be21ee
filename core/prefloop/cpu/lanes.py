"""Two lanes: halves of a batch that are computed at once on mlx's CPU back end.

All that is no product of its BLAS has one thread there, exponentials and the copies of a backward pass among
it. So one half goes to a stream of its own, and the products of each half have half of the BLAS's threads.
Both are one graph, whose operations mlx takes up by turns where it goes through them in breadth
(``MLX_BFS_MAX_WIDTH``, which `blas.use_fastest` sets).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from prefloop.cpu import blas, on_cpu

_LANES = 2
_BREADTH_FIRST = "MLX_BFS_MAX_WIDTH"
_own = threading.local()
"""A thread's second stream, which mlx lets no other thread use, and how many lanes it has now."""


def most() -> int:
    """How many lanes there can be: 2 where the BLAS has threads that can be divided, otherwise 1."""
    divisible = on_cpu() and _BREADTH_FIRST in os.environ and blas.threads() >= _LANES
    return _LANES if divisible else count()


@contextmanager
def divided(wanted: bool = True) -> Iterator[None]:
    """Within, `parted` divides rows among as many lanes as there can be, if that is `wanted`.

    What was divided has to be evaluated within.
    """
    before = count()
    lanes = most() if wanted else before
    if lanes == before:
        yield
        return
    _own.count = lanes
    try:
        with blas.limited_to(max(1, blas.threads() // lanes)):
            yield
    finally:
        _own.count = before


def count() -> int:
    """How many lanes there are now: 1 or 2."""
    return getattr(_own, "count", 1)


@contextmanager
def lane(number: int) -> Iterator[None]:
    """Within, operations go to one of the lanes; numbers go round."""
    if number % count() == 0:
        yield
        return
    if not hasattr(_own, "second"):
        _own.second = mx.new_stream(mx.cpu)
    with mx.stream(_own.second):
        yield


def parted(rows: int) -> Iterator[slice]:
    """Equal parts of so many rows, one for each lane, and each in its lane until the next is asked for.

    One part where they cannot be equal.
    """
    parts = count() if rows % count() == 0 else 1
    size = rows // parts
    for number in range(parts):
        with lane(number):
            yield slice(number * size, (number + 1) * size)
