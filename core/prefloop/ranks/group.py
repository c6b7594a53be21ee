"""The ranks that share a run, and what they tell each other.

All of it goes through mlx's own collectives. Whatever is exchanged begins with a header of one shape, in
which a rank can say that it ends. The others hear of it wherever they wait, so that all end at the same step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from attrs import define

from prefloop.errors import StopRun, UserError
from prefloop.ranks.heart import settle, waiting
from prefloop.ranks.parent import is_rank
from prefloop.ranks.wire import stop_to_wire

T = TypeVar("T")


@define(eq=False)
class Ranks:
    """The processes that share a run, as one of them sees them; `group` is mlx's, None for one alone."""

    rank: int = 0
    size: int = 1
    group: Any = None
    ended: bool = False
    """Whether a rank has said that it ends. Nothing is exchanged after that."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of so many places in a row are this rank's; the shares differ by one at most."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def exchange(self, said: Any) -> list[Any]:
        """What every rank says here, as JSON has it, by rank. Raises what another rank ended with."""
        if self.size == 1:
            return [said]
        return [json.loads(one) for one in self._gather(json.dumps(said).encode())]

    def from_first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes, as JSON has it, on all ranks."""
        made: T = self.exchange(make() if self.first else None)[0]
        return made

    def summed(self, values: mx.array) -> mx.array:
        """The sum over all ranks of flat float32 `values`, in one piece."""
        self._gather(b"")
        return self._met(
            lambda: mx.distributed.all_sum(values, group=self.group, stream=_stream()), values.nbytes
        )

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """An exception that is raised inside on one rank is raised on the others where they next exchange."""
        try:
            yield
            self.agree()
        except Exception as error:
            self.tell(error)
            raise

    def agree(self) -> None:
        """Wait for the others. Raises what one of them has ended with meanwhile."""
        if self.size > 1 and not self.ended:
            self._gather(b"")

    def tell(self, error: Exception) -> None:
        """Let the others end as well, unless all know it already."""
        if self.size > 1 and not self.ended:
            with suppress(_Ended):
                self._gather(json.dumps(_to_json(error, self.rank)).encode(), ends=True)

    def _gather(self, said: bytes, *, ends: bool = False) -> list[bytes]:
        """The bytes of every rank: their lengths first, then one padded buffer.

        Where a rank ends, what is said is why, and that is raised; where several do, the lowest one's.
        """
        if self.ended:
            raise StopRun("another rank has ended the run", failed=True)
        lengths, enders = zip(*self._all_gather([len(said), int(ends)], np.int32).tolist(), strict=True)
        padded = said if not any(enders) or ends else b""
        row = np.zeros(max(lengths), dtype=np.uint8)
        row[: len(padded)] = np.frombuffer(padded, dtype=np.uint8)
        rows = self._all_gather(row, np.uint8) if len(row) else np.zeros((self.size, 0), dtype=np.uint8)
        given = [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]
        if any(enders):
            self.ended = True
            if ends:
                raise _Ended
            raise _from_json(json.loads(given[enders.index(1)]))
        return given

    def _all_gather(self, row: Any, dtype: Any) -> Any:
        """A row of equal length from every rank, ``[ranks, N]``."""
        mine = mx.array(np.asarray(row, dtype=dtype)[None])
        return np.array(
            self._met(
                lambda: mx.distributed.all_gather(mine, group=self.group, stream=_stream()),
                mine.nbytes * self.size,
            )
        )

    def _met(self, collective: Callable[[], mx.array], size: int) -> mx.array:
        """What a collective of so many bytes gives. Where it cannot come, the heart ends this process."""
        try:
            with waiting(size):
                found = collective()
                mx.eval(found)
            return found
        except RuntimeError as error:
            settle()
            self.ended = True
            raise StopRun(f"the connection to another rank was lost: {error}", failed=True) from error


class _Ended(Exception):  # noqa: N818 (no error)
    """All ranks know that this one ends, and why."""


ALONE = Ranks()
"""A process that shares its run with no other."""


def _to_json(error: Exception, rank: int) -> dict[str, Any]:
    if isinstance(error, UserError):
        return {"problems": error.problems}
    if isinstance(error, StopRun):
        return stop_to_wire(error)
    return stop_to_wire(StopRun(f"rank {rank} broke off: {type(error).__name__}: {error}", failed=True))


def _from_json(said: Mapping[str, Any]) -> Exception:
    if "problems" in said:
        return UserError(*said["problems"])
    return StopRun(**said)


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


def _stream() -> Any:
    """Where collectives run: NCCL's on the GPU, as mlx says itself, all others on the CPU."""
    return None if "NCCL_HOST_IP" in os.environ else mx.cpu
