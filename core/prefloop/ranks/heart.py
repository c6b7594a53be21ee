"""Each rank beats a heart: a thread that says that its process lives, and ends it where another one does not.

A rank that waits in a collective for another one waits for ever, and spins; nothing in mlx ends it. So rank 0
listens, the others connect, and a byte goes both ways every now and then. A rank whose connection closes
unannounced, or that says nothing for too long, is lost: every other process then ends, wherever it is. So it
is where all ranks wait for each other for too long, as they do once one of mlx's own connections has broken.
What a run has saved is whole at any moment.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from attrs import define, field

from prefloop.errors import StopRun, UserError
from prefloop.ranks.parent import LOST, tell

GRACE = 1.5
"""Seconds for a process to end by itself, with words of its own, once another has closed its connection."""
JOINING = 60.0
"""Seconds for all ranks to connect."""
_OVER_TCP = "The ranks must reach each other over TCP, on every port."
BEAT, OVERDUE, END, LOSS = b".", b"w", b"e", b"l"
"""A sign of life; one of a rank whose collective should have come to its end; the end of a rank; a loss."""
NOBODY = 2**32 - 1
"""In a loss: none of the ranks is gone."""
SLOWEST = 1e6
"""Bytes a second at which a collective is waited for, besides the time after which a rank is lost."""
TOKEN = 32
_HELLO = struct.Struct(f"!{TOKEN}sI")
_LOSS = struct.Struct("!If")
_BEATS = 8
"""How many beats there are in the time after which a rank is lost."""


class Meeting(Protocol):
    """The ranks that share a run, as far as a heart needs them."""

    rank: int
    size: int

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What rank 0 makes, on all ranks."""


@define(eq=False)
class Peer:
    """Another rank at the end of a connection."""

    rank: int
    socket: socket.socket
    quiet: float = 0.0
    """Seconds in which this process was awake and heard nothing."""
    overdue: bool = False
    """Whether it has waited too long in a collective, as it said last."""


@define(eq=False)
class Wait:
    """A wait in a collective. Each has one of its own, as the heart counts while the rank goes on."""

    left: float
    """Seconds in which this process is awake, until it is overdue."""


_hearts: list[Heart] = []
"""The one of this process, while it beats."""


@define(eq=False)
class Heart:
    """Beats for rank `rank`, towards the `peers` that it is connected to."""

    rank: int
    peers: list[Peer]
    silent_after: float
    ended: threading.Event = field(factory=threading.Event)
    """Whether this rank has come to its end and needs the others no more."""
    lost: threading.Event = field(factory=threading.Event)
    _last: float = field(factory=time.monotonic)
    _wait: Wait | None = None
    """That of the collective which this rank is in."""

    @property
    def overdue(self) -> bool:
        """Whether this rank has waited too long in a collective."""
        wait = self._wait
        return wait is not None and wait.left < 0

    @contextmanager
    def waiting(self, size: int) -> Iterator[None]:
        """Be in a collective of so many bytes while the body runs."""
        self._wait = Wait(self.silent_after + size / SLOWEST)
        try:
            yield
        finally:
            self._wait = None

    def beat(self) -> None:
        """Beat and listen until the end, or until a rank is lost."""
        interval = self.silent_after / _BEATS
        with selectors.DefaultSelector() as selector:
            for peer in self.peers:
                selector.register(peer.socket, selectors.EVENT_READ, peer)
            while self.peers and not self.ended.is_set():
                for key, _ in selector.select(max(0.0, self._last + interval - time.monotonic())):
                    self._hear(key.data, selector)
                if time.monotonic() >= self._last + interval:
                    self._tick(interval)

    def end(self) -> None:
        """Tell the others that this rank ends because it is done."""
        self.ended.set()
        for peer in self.peers:
            with suppress(OSError):
                peer.socket.send(END)

    def give_up(self) -> None:
        """End the process, and with it the others: all live, and a connection between two has broken."""
        self._lose(NOBODY, self.silent_after)

    def _hear(self, peer: Peer, selector: selectors.BaseSelector) -> None:
        try:
            heard = peer.socket.recv(256)
        except BlockingIOError:  # woken for nothing
            return
        except OSError:
            heard = b""
        if not heard:
            self._lose(peer.rank, 0.0)
        heard, loss, about = heard.partition(LOSS)
        if loss and len(about) >= _LOSS.size:
            self._lose(*_LOSS.unpack_from(about))
        peer.quiet, peer.overdue = 0.0, heard.strip(END).endswith(OVERDUE)
        if END in heard:
            selector.unregister(peer.socket)
            self.peers.remove(peer)

    def _tick(self, interval: float) -> None:
        """Beat, and see who was silent. A process that was itself stopped for a while accuses nobody."""
        now = time.monotonic()
        awake, self._last = min(now - self._last, 2 * interval), now
        if wait := self._wait:
            wait.left -= awake
        for peer in self.peers:
            with suppress(OSError):  # a closed connection is heard of as well
                peer.socket.send(OVERDUE if self.overdue else BEAT)
            peer.quiet += awake
            if peer.quiet > self.silent_after:
                self._lose(peer.rank, peer.quiet)
        if self.rank == 0 and self.overdue and all(peer.overdue for peer in self.peers):
            self.give_up()

    def _lose(self, rank: int, silent: float) -> None:
        """Tell all that listen here, and end the process, unless it is about to end by itself."""
        for peer in self.peers if self.rank == 0 else ():
            with suppress(OSError):
                peer.socket.send(LOSS + _LOSS.pack(rank, silent))
        self.lost.set()
        if not self.ended.wait(0.0 if silent else GRACE):
            _die(self.rank, rank, silent)


def _die(own: int, lost: int, silent: float) -> NoReturn:
    if lost == NOBODY:
        why = "the ranks wait for each other, and nothing comes: a connection between two of them has broken"
    else:
        why = f"rank {lost} {f'has been silent for {silent:.0f} s' if silent else 'is gone'}"
    if not tell(lost=None if lost == NOBODY else lost, silent=silent) and (own == 0 or lost == 0):
        says = f"error: {why}: rank {own} ends. What the run has saved is whole: --resume goes on."
        os.write(sys.stderr.fileno(), f"{says}\n".encode())
    os._exit(LOST)


@contextmanager
def beating(ranks: Meeting, silent_after: float) -> Iterator[None]:
    """Beat for one of the `ranks` while the body runs.

    Where the body raises, the others are not told that this rank is done: for them it is lost. Raises
    `UserError` where the ranks do not all reach each other.
    """
    try:
        heart = Heart(ranks.rank, _peers(ranks), silent_after)
    except StopRun as error:  # out of a collective, which no heart was there to end
        raise UserError(f"rank {ranks.rank} met the others and lost them: {error.reason}.") from error
    _hearts.append(heart)
    tell(joined=True)
    threading.Thread(target=heart.beat, name="heart", daemon=True).start()
    try:
        yield
    except BaseException:
        heart.ended.set()
        raise
    finally:
        _hearts.remove(heart)
    heart.end()
    tell(done=True)


def waiting(size: int) -> AbstractContextManager[None]:
    """Be in a collective of so many bytes while the body runs."""
    return _hearts[0].waiting(size) if _hearts else nullcontext()


def settle() -> None:
    """End this process, where its heart beats, as a collective has failed; the heart says what was lost."""
    for heart in _hearts:
        if heart.lost.wait(heart.silent_after):
            threading.Event().wait()
        heart.give_up()


def _peers(ranks: Meeting) -> list[Peer]:
    """Rank 0 listens where and for whom it says; raises `UserError` where not all of them come."""
    if ranks.rank == 0:
        with socket.create_server((_own_address(), 0), backlog=ranks.size) as server:
            host, port = server.getsockname()[:2]
            token = secrets.token_bytes(TOKEN)
            ranks.from_first(lambda: [host, port, token.hex()])
            return _welcome(server, token, ranks.size)
    host, port, secret = ranks.from_first(lambda: None)
    try:
        connection = socket.create_connection((host, port), timeout=JOINING)
        connection.sendall(_HELLO.pack(bytes.fromhex(secret), ranks.rank))
    except OSError as error:
        raise UserError(
            f"rank {ranks.rank} does not reach rank 0 at {host}:{port}: {error}. {_OVER_TCP}"
        ) from error
    return [Peer(0, _ready(connection))]


def _welcome(server: socket.socket, token: bytes, size: int) -> list[Peer]:
    """The others, once each of them has connected and shown the token; who does not is turned away."""
    found: dict[int, Peer] = {}
    deadline = time.monotonic() + JOINING
    while len(found) < size - 1:
        server.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            connection, _ = server.accept()
        except TimeoutError:
            missing = sorted(set(range(1, size)) - found.keys())
            raise UserError(
                f"rank 0 has waited {JOINING:.0f} s for a connection of rank {missing[0]}. {_OVER_TCP}"
            ) from None
        rank = _said(connection, token)
        if rank is None or not 0 < rank < size or rank in found:
            connection.close()
        else:
            found[rank] = Peer(rank, _ready(connection))
    return list(found.values())


def _said(connection: socket.socket, token: bytes) -> int | None:
    """The rank that a newcomer says it is; None for one that does not know the token."""
    connection.settimeout(2.0)
    try:
        said = connection.recv(_HELLO.size, socket.MSG_WAITALL)
    except OSError:
        return None
    if len(said) < _HELLO.size:
        return None
    shown, rank = _HELLO.unpack(said)
    return int(rank) if hmac.compare_digest(shown, token) else None


def _ready(connection: socket.socket) -> socket.socket:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _own_address() -> str:
    """Where the others reach rank 0: as what started the ranks has it, else on this machine alone."""
    if hosts := os.environ.get("MLX_HOSTFILE"):
        return str(json.loads(Path(hosts).read_text())[0][0]).rpartition(":")[0]
    if coordinator := os.environ.get("MLX_JACCL_COORDINATOR"):
        return coordinator.rpartition(":")[0]
    if any(name.startswith(("OMPI_", "PMI_", "PMIX_")) for name in os.environ):
        with suppress(OSError):
            return socket.gethostbyname(socket.gethostname())
    return os.environ.get("NCCL_HOST_IP", "127.0.0.1")
