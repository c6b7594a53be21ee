"""Keeps what a judge says of pairs outside a run in a ledger: the next call goes on where one stopped."""

from __future__ import annotations

import os
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from prefloop import embedded
from prefloop.components import Judge
from prefloop.errors import StopRun, UserError
from prefloop.runs.ledger import CachedJudge, Ledger
from prefloop.runs.run import identify
from prefloop.runs.view import LEDGER
from prefloop_plugins.judging.pair_files import ledger_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop.registry import Origin
    from prefloop.types import Pair, Verdict

_BEGINNING = b'{"step": '
"""How the first line of every ledger begins: what begins otherwise is somebody's file of another kind."""


class KeptJudge(CachedJudge):
    """A judge, prepared already, whose verdicts are kept in a ledger and asked for once.

    Where it stops, `StopRun.verdicts` are those on the first pairs, whichever call they were given in.
    """

    def __init__(self, judge: Judge, origin: Origin, ledger: Ledger) -> None:
        super().__init__(judge, identify(judge, {type(judge): origin}), ledger, lambda: 0)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """As `CachedJudge.judge`."""
        try:
            return super().judge(pairs)
        except StopRun as stop:
            first = takewhile(self.knows, pairs)
            raise StopRun(stop.reason, super().judge(list(first)), failed=stop.failed) from stop

    def knows(self, pair: Pair) -> bool:
        """Whether the ledger has a verdict on `pair`."""
        return self.ledger.find(self.identity, pair) is not None


def ledger_beside(pairs: str) -> Path | None:
    """Where a person's answers about `pairs` are kept unless it is said: beside a file of one's own.

    None for what is no such file: a folder, a data set on the Hub, an embedded file, and a run.
    """
    if embedded.resolve(pairs) != pairs:
        return None
    path = embedded.local_path(pairs)
    if not path.is_file() or ledger_of(path):
        return None
    return path.with_name(f"{path.stem}.{LEDGER}")


def open_ledger(path: Path, pairs: str) -> Ledger:
    """The ledger in `path`, which need not be there yet.

    Raises `UserError` where it cannot be written, is damaged, or is a file that is used for something else.
    """
    problem = _problem(path, pairs)
    if problem:
        raise UserError(f"the ledger '{path}' {problem}.")
    return Ledger(path)


def _problem(path: Path, pairs: str) -> str:
    """Why verdicts cannot be kept in `path`; empty where they can."""
    if path.name == LEDGER:
        return "has the name of a run's own: give another one"
    if not path.exists():
        return (
            "" if os.access(path.parent, os.W_OK) else "cannot be made: its folder is not there or is closed"
        )
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        return "is no file that can be read and written"
    if path.samefile(embedded.local_path(pairs)):
        return "is the file of pairs itself: give another one"
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNING))
    if beginning and beginning != _BEGINNING:
        return "is there already and holds something else: give another one"
    return ""
