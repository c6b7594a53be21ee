"""Single key presses from a person at a terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefloop import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = {
    b"\x1b[D": "left",
    b"\x1bOD": "left",
    b"\x1b[C": "right",
    b"\x1bOC": "right",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x03": "ctrl-c",
    b"\x04": "end",
    b"": "end",
}
_BURST = 0.02
"""Seconds within which bytes belong together: an arrow key sends three, pasting many."""
_QUIET = 0.2
"""Seconds without a key before the next one counts: nobody has read what was just shown."""


class Keys:
    """Key presses from a terminal, one at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = False

    def read(self, seconds: float) -> str | None:
        """The next key, in lower case, or None where none comes within so many seconds.

        A key is a character or ``left``, ``right``, ``up``, ``down``, ``page up``, ``page down``, ``ctrl-c``,
        ``end`` or ``several``. ``end`` means that no key will ever come (or Ctrl-D); ``several`` that more
        than one came at once, as from pasting.
        """
        if self._end:
            return "end"
        if not self._ready(seconds):
            return None
        burst = self._burst()
        if burst in _NAMES:
            return _NAMES[burst]
        key = burst.decode(errors="replace")
        return key.lower() if len(key) == 1 else "several"

    def wait_for_quiet(self) -> None:
        """Forget keys pressed early, held down or pasted; Ctrl-C and the end of input still count."""
        while not self._end and self._ready(_QUIET):
            if self._burst() in (b"\x03", b"\x04", b""):
                self._end = True

    def _burst(self) -> bytes:
        burst = chunk = self._receive()
        while chunk and self._ready(_BURST):
            burst += (chunk := self._receive())
        return burst

    def _receive(self) -> bytes:
        try:
            return os.read(self._descriptor, 4096)
        except OSError:  # the terminal is gone
            return b""

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._descriptor], [], [], seconds)[0])


def check_terminal() -> None:
    """Raises `UserError` where standard input or output is not a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(
            "the human judge needs a terminal, and standard input or output is none: "
            "run prefloop in a terminal, without pipes, or choose another judge."
        )


@contextmanager
def keyboard() -> Iterator[Keys]:
    """The terminal's keys, unbuffered and without echo; the terminal is put back afterwards.

    Ctrl-C comes as a key, so that it cannot lose what was answered. Raises `UserError` where standard
    input or output is not a terminal.
    """
    check_terminal()
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    mode = termios.tcgetattr(descriptor)
    mode[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, mode)
    try:
        yield Keys(descriptor)
    finally:
        _restore(descriptor, before)


def _restore(descriptor: int, mode: list[object]) -> None:
    try:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, mode)  # type: ignore[arg-type]
    except termios.error:  # the terminal is gone
        return
