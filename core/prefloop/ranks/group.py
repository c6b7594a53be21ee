"""The ranks that share a run, and what they tell each other.

All of it goes through mlx's own collectives, on the stream that the back end computes on. Whatever is exchanged
begins with a header of one shape, in which a rank can say that it breaks off: the others hear of it wherever
they are, so that all end at the same step.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import mlx.core as mx
from attrs import define

from prefloop.errors import UserError

MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""What the launchers of MPI tell a process, of which mlx reads the rest itself."""


@define(eq=False)
class Ranks:
    """The processes that share a run, as one of them sees them. `group` is mlx's, None for a process alone."""

    rank: int = 0
    size: int = 1
    group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes."""
        return self.rank == 0


ALONE = Ranks()
"""A process that shares its run with no other."""


def is_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher has started this process as one of several."""
    return "MLX_RANK" in environment or any(environment.get(name, "1") != "1" for name in MPI)


@cache
def joined() -> Ranks:
    """The ranks that this process was started with, `ALONE` where no launcher has said so.

    Raises `UserError` where the others cannot be reached.
    """
    if not is_rank():
        return ALONE
    try:
        group = mx.distributed.init(strict=True, backend="ring" if "MLX_HOSTFILE" in os.environ else "any")
    except RuntimeError as error:
        raise UserError(
            f"the ranks of this run cannot reach each other: {error}. They are started by mlx.launch or "
            "prefloop train --ranks N."
        ) from error
    return Ranks(group.rank(), group.size(), group) if group.size() > 1 else ALONE
