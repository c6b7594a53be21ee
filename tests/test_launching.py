"""Ranks of this machine: started, watched, ended together, and started again where one is lost."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from click.testing import CliRunner

from prefloop.cli import main
from prefloop.errors import StopRun, UserError
from prefloop.ranks import heart
from prefloop.ranks.launching import _free_ports, _threads

PROGRAM = Path(__file__).parent / "support" / "rank_program.py"
LAUNCH = """
import sys
from pathlib import Path
from prefloop.ranks.launching import launch
size, restarts, silent = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
code, run = launch(lambda run: [sys.executable, *sys.argv[4:]], size, restarts, silent)
sys.exit(code)
"""
SILENT_AFTER = 3.0
PATIENCE = 60.0
"""Seconds in which anything here ends, on a machine that is busy."""


@define
class Launched:
    """Ranks that were started by a process of their own, as `prefloop train --ranks` is one."""

    folder: Path
    process: subprocess.Popen[str] = field(init=False)

    def start(self, size: int, restarts: int, program: Sequence[str]) -> None:
        (self.folder / "run.json").touch()
        command = [sys.executable, "-c", LAUNCH, str(size), str(restarts), str(SILENT_AFTER), *program]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def pids(self, size: int) -> list[int]:
        """The processes of so many ranks, once all of them have begun."""
        files = [self.folder / f"{rank}.pid" for rank in range(size)]
        wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        return [int(file.read_text()) for file in files]

    def end(self) -> tuple[int, str, str]:
        """The exit code and what was printed, once all have ended."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    found: list[Launched] = []

    def start(size: int, restarts: int = 0, steps: int = 1_000) -> Launched:
        found.append(Launched(tmp_path))
        found[-1].start(size, restarts, [str(PROGRAM), str(tmp_path), str(steps), str(SILENT_AFTER)])
        return found[-1]

    yield start
    for one in found:
        with suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing has happened"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text() if Path("/proc").exists() else ""
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return ") Z " not in stat


def test_ranks_are_started_and_end_together(launched: Callable[..., Launched]) -> None:
    code, output, errors = launched(3, steps=3).end()
    assert (code, output, errors) == (0, "3 steps with 3 ranks\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV])
def test_all_end_where_one_is_lost(
    launched: Callable[..., Launched], rank: int, number: signal.Signals
) -> None:
    ranks = launched(3)
    pids = ranks.pids(3)
    os.kill(pids[rank], number)
    code, output, errors = ranks.end()
    how = "said nothing for 3 s" if number is signal.SIGSTOP else f"was ended by {number.name}"
    assert code == 1
    assert output == ""
    assert f"error: rank {rank} {how}, and the others stopped" in errors
    assert f"prefloop train --resume {ranks.folder} --ranks 2" in errors
    assert "Traceback" not in errors
    assert not any(map(is_alive, pids))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_where_all_live_and_a_connection_does_not_they_begin_again(
    launched: Callable[..., Launched], tmp_path: Path, kind: str
) -> None:
    """One of mlx's own: it fails, or is waited for without end."""
    (tmp_path / "break").write_text(kind)
    code, output, errors = launched(3, restarts=1, steps=20).end()
    assert (code, output) == (0, "20 steps with 3 ranks\n")
    assert "the ranks lost each other: going on with 3 ranks, restart 1 of 1" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_those_that_are_left_go_on(launched: Callable[..., Launched]) -> None:
    ranks = launched(3, restarts=1, steps=60)
    os.kill(ranks.pids(3)[1], signal.SIGKILL)
    code, output, errors = ranks.end()
    assert (code, output) == (0, "60 steps with 2 ranks\n")
    assert "rank 1 was ended by SIGKILL: going on with 2 ranks, restart 1 of 1" in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_ends_the_ranks(
    launched: Callable[..., Launched], number: signal.Signals
) -> None:
    """This program leaves at once where it is told to; a run takes its step to the end."""
    ranks = launched(2, restarts=3)
    pids = ranks.pids(2)
    ranks.process.send_signal(number)
    code, _, errors = ranks.end()
    assert code == 128 + number
    assert "restart" not in errors
    assert not any(map(is_alive, pids))


@pytest.mark.slow
def test_ranks_do_not_outlive_their_parent(launched: Callable[..., Launched]) -> None:
    ranks = launched(2)
    pids = ranks.pids(2)
    ranks.process.kill()
    wait_until(lambda: not any(map(is_alive, pids)))


@pytest.mark.slow
def test_waiting_costs_no_processor_time(launched: Callable[..., Launched]) -> None:
    ranks = launched(2, steps=100)
    ranks.pids(2)
    before = _ticks(ranks.process.pid)
    time.sleep(2.0)
    assert _ticks(ranks.process.pid) - before <= 2


def _ticks(pid: int) -> int:
    """Hundredths of a second for which a process has computed."""
    if not Path("/proc").exists():
        pytest.skip("only Linux says so without more ado")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.slow
def test_a_rank_that_fails_is_heard(tmp_path: Path) -> None:
    """Rank 1 alone finds something wrong, before it meets the others."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys, time\n"
        "from prefloop.ranks.parent import attach\n"
        "attach()\n"
        "if os.environ['MLX_RANK'] == '1':\n"
        "    sys.exit('error: my prompts are other ones.')\n"
        "time.sleep(100)\n"
    )
    ranks = Launched(tmp_path)
    ranks.start(2, 1, [str(program)])
    code, _, errors = ranks.end()
    assert code == 1
    assert errors.splitlines() == ["rank 1 ended with these words:", "error: my prompts are other ones."]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--restart", "2"], {}, "--restart goes with --ranks"),
        (["--silent-after", "9"], {}, "add --ranks N"),
        (["--ranks", "2"], {"MLX_RANK": "1"}, "this process is one already"),
        (["--ranks", "2"], {"OMPI_COMM_WORLD_SIZE": "4"}, "this process is one already"),
        (["--ranks", "2", "--seeds", "2"], {}, "a queue of several"),
        (["--ranks", "2", "--dry-run"], {}, "leave out --ranks"),
    ],
)
def test_options_that_make_no_sense(arguments: list[str], environment: dict[str, str], said: str) -> None:
    result = CliRunner().invoke(main, ["train", *arguments], env=environment)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_rank_that_is_left_alone_takes_what_the_others_took(tmp_path: Path) -> None:
    options = ["--ranks", "1", "--silent-after", "5"]
    command = [sys.executable, "-m", "prefloop", "train", "there-is-none.yaml", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "there-is-none.yaml" in done.stderr
    assert "--silent-after" not in done.stderr


def test_ranks_share_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert _threads(3, {}) == {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    assert _threads(30, {})["OMP_NUM_THREADS"] == "1"
    assert _threads(2, {"OPENBLAS_NUM_THREADS": "5"}) == {}


def test_ports_are_free_and_differ() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        ports = _free_ports(5)
    assert len(set(ports)) == 5


def test_strangers_are_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without the token, with the number of another rank, or with nothing to say are turned away."""
    token, wrong = b"t" * heart.TOKEN, b"w" * heart.TOKEN
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = [
            heart._HELLO.pack(wrong, 1),
            heart._HELLO.pack(token, 2),
            heart._HELLO.pack(token, 0),
            b"GET /",
        ]
        strangers = [_saying(server, words) for words in said]
        strangers[-1].shutdown(socket.SHUT_WR)
        rank = _saying(server, heart._HELLO.pack(token, 1))
        peers = heart._welcome(server, token, 2)
    assert [peer.rank for peer in peers] == [1]
    assert all(stranger.recv(1) == b"" for stranger in strangers)
    monkeypatch.setattr(heart, "JOINING", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UserError, match="rank 1"):
        heart._welcome(server, token, 2)
    for one in (rank, *strangers, *(peer.socket for peer in peers)):
        one.close()


@define
class Meeting:
    """Rank 1 of two, which hears of rank 0 what `heard` gives."""

    heard: Callable[[], Any]
    rank: int = 1
    size: int = 2

    def from_first(self, make: Callable[[], Any]) -> Any:
        return self.heard()


def test_a_rank_0_that_dies_while_it_is_greeted_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(*_: Any, **__: Any) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = connect(server.getsockname())
            theirs, _ = server.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()  # as the system closes those of a killed process that has not read all
        return ours

    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", connected)
    with pytest.raises(UserError, match=r"rank 1 does not reach rank 0 at 127\.0\.0\.1:1: .*(reset|pipe)"):
        heart._peers(Meeting(lambda: ["127.0.0.1", 1, "00" * heart.TOKEN]))


def test_ranks_that_are_lost_before_any_heart_beats_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Any:
        raise StopRun("the connection to another rank was lost: gone", failed=True)

    said = r"rank 1 met the others and lost them: the connection .*: gone\.$"
    with pytest.raises(UserError, match=said), heart.beating(Meeting(gone), 1.0):
        raise AssertionError


def _saying(server: socket.socket, words: bytes) -> socket.socket:
    connection = socket.create_connection(server.getsockname())
    connection.sendall(words)
    return connection


def test_a_process_that_was_stopped_itself_accuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all ranks are, where a laptop is closed or Ctrl-Z pressed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lost: list[int] = []
        monkeypatch.setattr(heart.Heart, "_lose", lambda self, rank, silent: lost.append(rank))
        one = heart.Heart(0, [heart.Peer(1, ours)], 8.0)
        one._last -= 1_000.0
        one._tick(1.0)
        assert not lost
        for _ in range(6):
            one._last -= 1.1
            one._tick(1.0)
        assert lost == [1]
        assert theirs.recv(64) == heart.BEAT * 7


def test_only_where_all_are_overdue_do_they_wait_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    lost: list[int] = []
    monkeypatch.setattr(heart.Heart, "_lose", lambda self, rank, silent: lost.append(rank))
    first = heart.Heart(0, [heart.Peer(i + 1, ours) for i, (ours, _) in enumerate(pairs)], 8.0)
    others = [heart.Heart(i + 1, [heart.Peer(0, theirs)], 8.0) for i, (_, theirs) in enumerate(pairs)]

    def left(one: heart.Heart, seconds: float) -> None:
        assert one._wait
        one._wait.left = seconds

    def beat() -> None:
        with selectors.DefaultSelector() as selector:
            for place, other in enumerate(others):
                other._tick(1.0)
                first._hear(first.peers[place], selector)
            first._tick(1.0)

    with first.waiting(0), others[0].waiting(0), others[1].waiting(0):
        beat()
        assert not lost, "none has waited for long"
        for one in (first, *others):
            one._last -= 1_000
        beat()
        assert not lost, "they have slept"
        left(first, -1)
        left(others[0], -1)
        beat()
        assert not lost, "rank 2 may still be on its way"
        left(others[1], -1)
        beat()
        assert lost == [heart.NOBODY]
    beat()
    assert lost == [heart.NOBODY], "they are out of it"
    with first.waiting(10**9):
        assert first._wait and first._wait.left > 1_000, "a gigabyte may take its time"
    for one in (one for pair in pairs for one in pair):
        one.close()


def test_who_is_done_is_not_missed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one, other = heart.Heart(0, [heart.Peer(1, ours)], 0.8), heart.Heart(1, [heart.Peer(0, theirs)], 0.8)
        threads = [threading.Thread(target=beats.beat) for beats in (one, other)]
        for thread in threads:
            thread.start()
        other.end()
        for thread in threads:
            thread.join(PATIENCE)
        assert not one.peers
        assert not any(thread.is_alive() for thread in threads)
