"""Errors that are the user's to mend: one clear sentence, no traceback, exit code 2."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefloop.text import in_a_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from prefloop.types import Verdict


class UserError(Exception):
    """Something given to prefloop is wrong. The message says what, where, and the likeliest fix.

    `problems` holds one line each where several were found at once, whatever they quote.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(in_a_line(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


class Notice(UserWarning):
    """Something given to prefloop will do, but was hardly meant. The command line prints it in a line."""


class StopRun(Exception):  # noqa: N818 (a request, not an error)
    """Raised by a judge or an observer to end the run cleanly: it is saved and can be resumed.

    `failed` says that something is wrong, rather than that somebody wants to stop, and `resumable` whether
    the run could go on from its last checkpoint without meeting the same again.

    `verdicts` are those already given, for the first pairs of the batch under judgement, in their order.
    """

    def __init__(
        self,
        reason: str,
        verdicts: Sequence[Verdict] = (),
        *,
        failed: bool = False,
        resumable: bool = True,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.failed = failed
        self.resumable = resumable
        self.verdicts = tuple(verdicts)


@contextmanager
def said_of(key: str) -> Iterator[None]:
    """Put the configuration key at fault in front of every problem of a `UserError` raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(*(f"{key}: {problem}" for problem in error.problems)) from error


def first_few(problems: Sequence[str], shown: int = 5) -> Sequence[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - shown
    return problems if more <= 0 else [*problems[:shown], f"… and {more:,} more"]


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or the known names where none is close, to end a message with."""
    names = sorted(known)
    return guess(given, names) or (f" Known: {', '.join(names)}." if names else "")


def guess(given: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` where a known name is close, else nothing."""
    close = difflib.get_close_matches(given, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def guess_neighbour(path: Path) -> str:
    """The same for a file or folder that is not there, among those that are beside it."""
    return guess(path.name, [entry.name for entry in path.parent.glob("*")])
