"""The ranks of one start, as the process that started them sees them."""

from __future__ import annotations

import json
import math
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field

from prefloop.ranks.parent import LOST

SETTLING = 5.0
"""Seconds for the others to end, once a rank has not ended in order or rank 0 is done."""
PASSING_ON = 0.3
"""Seconds after which a signal is passed on: a terminal sends it to the ranks as well."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@define(eq=False)
class Rank:
    """A process of this machine, and what it has said of itself."""

    number: int
    process: subprocess.Popen[bytes]
    link: socket.socket
    output: Path | None
    """Where its words go; None where that is the terminal."""
    joined: bool = False
    """Whether it has found the others."""
    in_order: bool = False
    """Whether it has said that it is done."""
    killed: bool = False
    """Whether it was ended from here."""
    code: int | None = None
    """Its exit code, once its end was noted."""
    unread: bytes = b""

    def heard(self) -> list[dict[str, Any]]:
        """What it has said since the last time. The link is no longer registered once it is closed."""
        try:
            while more := self.link.recv(65_536):
                self.unread += more
        except OSError:  # there is no more for now
            pass
        *said, self.unread = self.unread.split(b"\n")
        return [json.loads(line) for line in said]


@define(eq=False)
class Crew:
    """The ranks of one start, which have so many seconds to find each other."""

    ranks: list[Rank]
    starting: float
    run: Path | None = field(default=None, init=False)
    """Where rank 0 has said that the run is."""
    lost: dict[int, str] = field(factory=dict, init=False)
    """How each rank was lost that was."""
    received: list[int] = field(factory=list, init=False)
    """The signals that have come in."""
    _deadline: float = field(default=math.inf, init=False)
    """When those are killed that are still there."""
    _pass_on: float = field(default=math.inf, init=False)
    """When the first signal is passed on, unless rank 0 knows of it."""

    def wait(self, signals: socket.socket) -> int:
        """Sleep until all have ended; the exit code of the whole, `LOST` where ranks were lost.

        A byte for each signal comes in at `signals`, SIGCHLD among them.
        """
        self._deadline = time.monotonic() + self.starting
        with selectors.DefaultSelector() as selector:
            selector.register(signals, selectors.EVENT_READ)
            for rank in self.ranks:
                selector.register(rank.link, selectors.EVENT_READ, rank)
            while any(rank.code is None for rank in self.ranks):
                ready = selector.select(self._time_left())
                if any(key.data is None for key, _ in ready):
                    self._note_signals(signals.recv(256))
                for rank in self.ranks:
                    self._look(rank, selector)
                self._do_what_is_due()
        return self._code()

    def _time_left(self) -> float | None:
        left = min(self._deadline, self._pass_on) - time.monotonic()
        return None if left == math.inf else max(0.0, left)

    def _note_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in SIGNALS:
                self.received.append(number)
                if len(self.received) == 1:
                    self._pass_on = time.monotonic() + PASSING_ON
                else:
                    self._end(signal.Signals(number))

    def _look(self, rank: Rank, selector: selectors.BaseSelector) -> None:
        """Take in what `rank` has said, and its end where it has come to it."""
        if rank.code is not None:
            return
        code = rank.process.poll()
        for said in rank.heard():
            self._take(rank, said)
        if code is not None:
            rank.code = code
            selector.unregister(rank.link)
            rank.link.close()
            self._note_end(rank, code)

    def _take(self, rank: Rank, said: Mapping[str, Any]) -> None:
        rank.joined |= "joined" in said
        rank.in_order |= "done" in said
        if "joined" in said and all(rank.joined for rank in self.ranks):
            self._deadline = math.inf
        if "stopping" in said and rank.number == 0:
            self._pass_on = math.inf
        if "run" in said:
            self.run = Path(said["run"])
        if said.get("silent"):
            if said["lost"] is not None:
                self.lost.setdefault(said["lost"], f"said nothing for {said['silent']:.0f} s")
            self._deadline = min(self._deadline, time.monotonic() + 1.0)  # it will not end by itself

    def _note_end(self, rank: Rank, code: int) -> None:
        """Of several that end by a signal, the first was lost: the others may have ended for that."""
        if rank.number == 0 or not rank.in_order:
            self._deadline = min(self._deadline, time.monotonic() + SETTLING)
        if code < 0 and not (rank.in_order or rank.killed or self.received):
            if -code in SIGNALS:  # somebody wanted that
                self.received.append(-code)
            elif not self.lost or -code == signal.SIGKILL:
                self.lost[rank.number] = f"was ended by {signal.Signals(-code).name}"

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if now >= self._pass_on:
            self._pass_on = math.inf
            first = self.ranks[0]
            if first.code is None:
                first.process.send_signal(self.received[0])
        if now >= self._deadline:
            self._deadline = math.inf
            self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        for rank in self.ranks:
            if rank.code is None:
                rank.killed = True
                rank.process.send_signal(number)

    def _code(self) -> int:
        """What rank 0 ended with if it was done, else `LOST`, or what a rank that failed ended with."""
        first = self.ranks[0].code or 0
        if self.ranks[0].in_order and first >= 0:
            return first
        if self.received:
            return 128 + self.received[-1]
        if all(rank.code == 0 for rank in self.ranks):  # nothing was left to do
            return 0
        failed = [rank.code for rank in self.ranks if rank.code not in (0, LOST) and not rank.killed]
        if self.lost or not failed:
            return LOST
        return failed[0] or 0
