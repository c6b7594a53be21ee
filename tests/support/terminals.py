"""A program at a pseudo-terminal, and the person who sits there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

KEYS_SHOWN = "save and quit"
QUIET = 0.35  # longer than the judge waits before a key counts
_SIZELESS = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """Runs `command` in `folder` at a terminal of `columns` columns and `rows` lines."""

    def __init__(
        self, command: list[str], folder: Path, columns: int = 120, rows: int = 50, patience: float = 20.0
    ) -> None:
        self.screen = b""
        self.patience = patience
        self.rows = rows
        self._seen = 0
        self._terminal, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            env={**_SIZELESS, "TERM": "xterm-256color"},
        )
        os.close(inside)

    def wait_for(self, text: str) -> None:
        """Until `text` shows on the screen after what was waited for before."""
        deadline = time.monotonic() + self.patience
        while (place := self.screen.find(text.encode(), self._seen)) < 0:
            assert time.monotonic() < deadline, f"{text!r} never came:\n{self.text}"
            self._read(0.1)
        self._seen = place + len(text)

    def press(self, keys: str | bytes) -> None:
        os.write(self._terminal, keys if isinstance(keys, bytes) else keys.encode())

    def answer(self, number: int, keys: str | bytes) -> None:
        """Press `keys` once pair `number` is shown and has been looked at."""
        self.wait_for(f"pair {number} of")
        self.wait_for(KEYS_SHOWN)
        time.sleep(QUIET)
        self.press(keys)

    def hint(self, keys: str | bytes) -> None:
        """Press `keys` and see that they are no answer."""
        self.press(keys)
        self.wait_for("Not an answer")
        self.wait_for(KEYS_SHOWN)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.rows = rows

    def hang_up(self) -> None:
        os.close(self._terminal)
        self._terminal = -1

    def wait(self) -> int:
        """The exit code, once the program has ended."""
        deadline = time.monotonic() + self.patience
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            if self._terminal >= 0:
                self._read(0.05)
        return self.process.returncode

    @property
    def text(self) -> str:
        """The screen without the colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.screen.decode(errors="replace"))

    @property
    def visible(self) -> str:
        """What is on the screen once it is still, where lines are printed and the cursor never goes back."""
        before = -1
        while before < len(self.screen):
            before = len(self.screen)
            self._read(0.1)
        return "\n".join(self.text.replace("\r", "").split("\n")[-self.rows :])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._terminal >= 0:
            self.hang_up()

    def _read(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.screen += os.read(self._terminal, 65536)
            except OSError:  # the other side is closed
                return
