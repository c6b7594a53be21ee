"""What a judge may not do to a run: leave the process, hang, come back twice. Judges are anybody's code."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from types import FrameType
from typing import TypeVar

from prefloop.errors import StopRun

T = TypeVar("T")
_INSIST = 1.0
"""Seconds after which a judge that swallowed the end of its time is told again."""
_LAST = 10
"""How often it is told. Then the process ends at once: what is on the disk is whole."""


class _End:
    """What comes after the last answer."""


_END = _End()


class _TimeIsUp(BaseException):
    """No `Exception`, which code that tries again would catch."""


@contextmanager
def asked(judge: str, seconds: float | None = None) -> Iterator[None]:
    """Ask the judge of that name inside, which may take so many seconds.

    Raises `StopRun` where it takes longer, tries to end the process, or is interrupted. What it raises as an
    `Exception` goes through. A child process that it forked and that comes back here ends here. Only the
    main thread can be called back, and no code outside Python: elsewhere nothing takes too long.
    """
    owner = os.getpid()
    try:
        with _time_limit(judge, seconds):
            yield
    except KeyboardInterrupt as error:  # Ctrl-C, or raised by the judge: nobody can tell
        raise StopRun("interrupted from the keyboard") from error
    except _TimeIsUp:
        raise StopRun(
            f"{_late(judge, seconds)} If it only needs longer, resume with a higher limit.", failed=True
        ) from None
    except Exception:
        raise
    except BaseException as error:
        raise StopRun(
            f"judge: '{judge}' raised {type(error).__name__}, which would end the process "
            "(sys.exit does that). It must return a verdict, or raise an Exception.",
            failed=True,
        ) from error
    finally:
        if os.getpid() != owner:
            os._exit(1)  # a copy of the run: it would take the same steps, into the same files


def each(judge: str, seconds: float | None, answers: Iterator[T]) -> Iterator[T]:
    """`answers` as they come, each `asked` for so many seconds."""
    while True:
        with asked(judge, seconds):
            answer = next(answers, _END)
        if isinstance(answer, _End):
            return
        yield answer


def in_background(work: Callable[[], T]) -> Future[T]:
    """Begin to work in a thread that keeps no process alive. What it raises, ``result()`` raises."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="prefloop-asking", daemon=True).start()
    return future


@contextmanager
def _time_limit(judge: str, seconds: float | None) -> Iterator[None]:
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    told = count(1)

    def tell(_: int, __: FrameType | None) -> None:
        if next(told) > _LAST:
            os.write(2, f"error: {_late(judge, seconds)} It catches whatever would end it.\n".encode())
            os._exit(1)
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, tell)
    signal.setitimer(signal.ITIMER_REAL, seconds, _INSIST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _late(judge: str, seconds: float | None) -> str:
    return f"judge: '{judge}' was not done within {seconds:g} seconds (judging.timeout)."
