"""Start the ranks of a run on this machine, wait for them without using the processor, and start again.

This process computes nothing and loads no mlx. It sleeps until a rank says something or ends, or until a
signal comes, which it passes on.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import click

from prefloop.ranks.crew import SIGNALS, Crew, Rank
from prefloop.ranks.parent import FD, LOST
from prefloop.runs.view import MANIFEST
from prefloop.text import printable

STARTING = 300.0
"""Seconds for the ranks to find each other, besides those after which a rank counts as silent."""
_PORTS = range(20_000, 32_000)
"""Below those that systems give to connections by themselves."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SHOWN = 40
"""Lines of a rank's output that are shown where it failed."""


def launch(
    command: Callable[[Path | None], Sequence[str]], size: int, restarts: int, silent_after: float
) -> tuple[int, Path | None]:
    """Run a command as so many ranks; the exit code, and where the run is.

    Where ranks are lost, it is started again from the last checkpoint with those that are left, so many times
    at most. `command` is the one that begins, or that goes on with a run.
    """
    run, again = None, 0
    with _woken() as signals:
        while True:
            with tempfile.TemporaryDirectory(prefix="prefloop-ranks-") as folder:
                crew = Crew(_start(command(run), size, Path(folder)), STARTING + silent_after)
                code = crew.wait(signals)
                _show_failed(crew)
            if crew.run and (crew.run / MANIFEST).exists():
                run = crew.run
            if code != LOST:
                return code, run
            size = max(1, size - len(crew.lost))
            if again == restarts:
                click.echo(_given_up(crew.lost, run, size), err=True)
                return 1, run
            again += 1
            click.echo(_begins_again(crew.lost, size, again, restarts), err=True)


def _start(command: Sequence[str], size: int, folder: Path) -> list[Rank]:
    """Start so many ranks of one command. Rank 0 has the terminal, the others a file in `folder` each."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in _free_ports(size)]))
    ranks = []
    for number in range(size):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        told = {"MLX_RANK": str(number), "MLX_HOSTFILE": str(hosts)} if size > 1 else {}
        output = folder / f"{number}.txt" if number else None
        with theirs, output.open("wb") if output else nullcontext() as words:
            process = subprocess.Popen(
                list(command),
                env={**os.environ, **_threads(size, os.environ), **told, FD: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL if number else None,
                stdout=words,
                stderr=words,
            )
        ranks.append(Rank(number, process, ours, output))
    return ranks


def _threads(size: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Each rank's share of the processor, unless the user has said it."""
    if any(name in environment for name in _THREADS):
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return dict.fromkeys(_THREADS, str(max(1, cores // size)))


def _free_ports(count: int) -> list[int]:
    """Ports of this machine to which nobody listens, chosen at random: others choose as well."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as trial, suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            break
    return found


@contextmanager
def _woken() -> Iterator[socket.socket]:
    """A socket at which a byte comes in for each signal that matters, which does nothing else."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in (*SIGNALS, signal.SIGCHLD)}
    waker = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        with ours, theirs:
            yield ours
    finally:
        signal.set_wakeup_fd(waker)
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_failed(crew: Crew) -> None:
    """What a rank said that failed, where rank 0 did not fail by itself."""
    if crew.ranks[0].code not in (LOST, -signal.SIGKILL) or crew.received:
        return
    for rank in crew.ranks:
        if rank.output and rank.code not in (0, LOST, -signal.SIGKILL):
            said = rank.output.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN:]
            click.echo(printable("\n".join([f"rank {rank.number} ended with these words:", *said])), err=True)


def _told(lost: Mapping[int, str]) -> str:
    return " and ".join(f"rank {number} {how}" for number, how in lost.items()) or "the ranks lost each other"


def _begins_again(lost: Mapping[int, str], left: int, again: int, restarts: int) -> str:
    ranks = f"{left} rank{'s' * (left > 1)}"
    return f"ranks    {_told(lost)}: going on with {ranks}, restart {again} of {restarts}"


def _given_up(lost: Mapping[int, str], run: Path | None, left: int) -> str:
    if run is None:
        return f"error: {_told(lost)}, and the others stopped. Nothing was trained yet: start it again."
    ranks = f" --ranks {left}" if left > 1 else ""
    command = f"prefloop train --resume {shlex.quote(str(run))}{ranks}"
    return f"error: {_told(lost)}, and the others stopped. Go on from the last checkpoint: {command}"
