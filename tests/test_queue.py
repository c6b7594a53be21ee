"""The queue of `prefloop train`: its files, the turns of its runs, and taking it up again.

Its runs are stand-ins here (`support.fake_training`); test_queue_runs has real ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prefloop import load_config
from prefloop.cli import main
from prefloop.runs.holding import holder_of, take
from prefloop.runs.queue import open_queue
from support.fake_training import write_python

FILE = "model: m\nprompts: p\njudge: {use: rule, length: longer}\n"
AS_QUEUE = "import sys; sys.executable = sys.argv.pop(1); from prefloop.cli import main; main()"
AT_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "executable", write_python(tmp_path / "bin"))
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text(f"{FILE}training: {{iters: {len(name) + ord(name)}}}\n")
    write_acts()
    return tmp_path


def write_acts(**acts: Sequence[Mapping[str, Any]]) -> None:
    Path("acts.json").write_text(json.dumps(acts))


def prefloop(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, [*arguments], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def tries() -> list[str]:
    file = Path("tries.txt")
    found = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def states(queue: str) -> dict[str, str]:
    return open_queue(Path(queue)).states()


def test_a_queue_is_its_files(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = ["a.yaml", "b.yaml", "--set", "loss.beta=[0.1,0.2]", "--grid", "training.seed=1,2"]
    code, said, _ = prefloop("train", *given)
    assert code == 0
    queue = Path("runs/queue-a-b-1")
    names = [f"{c}-beta{beta}-seed{seed}" for c in "ab" for beta in (0.1, 0.2) for seed in (1, 2)]
    assert tries() == names
    assert "8 of 8 runs are finished." in said
    assert f"compared {queue}" in capfd.readouterr().out
    record = json.loads((queue / "queue.json").read_text())
    assert [run["name"] for run in record["runs"]] == names
    assert record["configs"] == ["a.yaml", "b.yaml"]
    assert (record["set"], record["grid"], record["seeds"]) == (given[3:4], given[5:6], None)
    assert record["began"]["folder"] == str(here)
    for name in names:
        config = load_config(queue / f"{name}.yaml")
        assert config.output.path == str(queue / name)
        beta, seed = name.split("-beta")[1].split("-seed")
        assert (config.loss.beta, config.training.seed) == (float(beta), int(seed))  # type: ignore[attr-defined]
    assert prefloop("train", *given)[0] == 0
    assert Path("runs/queue-a-b-2/queue.json").exists()


def test_a_run_that_fails_keeps_no_other_from_its_turn(here: Path) -> None:
    write_acts(
        a=[{"exit": 2, "error": "error: there is no such model.\nerror: and more"}],
        b=[{"status": "running", "exit": -signal.SIGKILL}],
    )
    code, said, _ = prefloop("train", "a.yaml", "b.yaml", "c.yaml", "--output", "q")
    assert (code, tries()) == (1, ["a", "b", "c"])
    assert [line for line in said.splitlines() if line.startswith(("──", "trained"))] == [
        "── run 1 of 3: a",
        "trained a",
        "── run 2 of 3: b",
        "trained b",
        "── run 3 of 3: c",
        "trained c",
    ]
    assert states("q") == {"a": "failed", "b": "interrupted", "c": "finished"}
    assert "1 of 3 runs are finished. The queue is in q.\n  b: interrupted, ended by SIGKILL\n" in said
    assert "To go on:\n  prefloop train --resume q\n" in said
    assert "To try again what failed:\n  prefloop train --resume q --retry-failed\n" in said

    code, said, _ = prefloop("train", "--resume", "q")
    assert (code, tries()) == (1, ["b resumed"])  # what was killed goes on; what failed does not
    code, said, _ = prefloop("runs", "resume", "q", "--retry-failed", "--accept-change")
    assert (code, tries()) == (0, ["a"])
    assert states("q") == dict.fromkeys("abc", "finished")
    assert (prefloop("train", "--resume", "q")[0], tries()) == (0, [])


def test_what_failed_is_said_where_there_is_no_comparison(here: Path) -> None:
    write_acts(
        a=[{"exit": 2, "error": "error: there is no such model."}], b=[{"exit": 1, "status": "failed"}]
    )
    code, said, _ = prefloop("train", "a.yaml", "b.yaml", "--output", "q")
    assert code == 1
    assert "  a: failed: there is no such model.\n  b: failed\n" in said
    assert prefloop("train", "--resume", "q", "--retry-failed", "--accept-change")[0] == 0
    assert tries() == ["a", "b", "a", "b resumed accepted"]


def test_a_person_who_leaves_is_not_asked_by_the_next_run(here: Path) -> None:
    write_acts(a=[{"exit": 130, "status": "stopped"}])
    assert prefloop("train", "a.yaml", "b.yaml", "--output", "q")[0] == 1
    assert tries() == ["a", "b"]  # stopped from elsewhere: the next has its turn
    manifest = json.loads(Path("q/a/run.json").read_text())
    Path("q/a/run.json").write_text(json.dumps({**manifest, "asks_a_person": True}))
    Path("q/b/run.json").write_text(json.dumps({**manifest, "status": "stopped"}))
    write_acts(a=[{}, {"exit": 130}])
    code, _, _ = prefloop("train", "--resume", "q")
    assert (code, tries()) == (130, ["a resumed"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_then_the_queue(here: Path, number: signal.Signals) -> None:
    write_acts(a=[{"status": "finished", "seconds": 60}])
    queue = start("train", "a.yaml", "b.yaml", "--output", "q")
    wait_for(lambda: Path("q/a/run.json").exists())
    queue.send_signal(number)
    said, _ = queue.communicate(timeout=60)
    assert queue.returncode == 130
    assert states("q") == {"a": "stopped", "b": "waiting"}
    assert "0 of 2 runs are finished. The queue is in q.\nTo go on:\n  prefloop train --resume q\n" in said
    assert prefloop("train", "--resume", "q")[0] == 0
    assert tries() == ["a", "a resumed", "b"]


def test_a_queue_that_nobody_reads_any_more_does_not_leave_its_run(here: Path) -> None:
    write_acts(b=[{"status": "finished", "seconds": 60}])
    queue = start("train", "b.yaml", "a.yaml", "--output", "q")
    wait_for(lambda: Path("q/b/run.json").exists())
    assert queue.stdout
    queue.stdout.close()
    os.kill(holder_of(Path("q/b")) or 0, signal.SIGUSR1)  # which makes it print
    queue.wait(timeout=60)
    assert states("q") == {"b": "stopped", "a": "waiting"}


def test_ctrl_c_on_a_terminal_reaches_the_run_once(here: Path) -> None:
    """The terminal signals both processes: the queue does not tell its run once more."""
    write_acts(a=[{"status": "finished", "seconds": 60}])
    command = command_of("train", "a.yaml", "b.yaml", "--output", "q")
    at_a_terminal = [command[0], "-c", AT_A_TERMINAL, *command]
    process = subprocess.Popen(at_a_terminal, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(lambda: Path("q/a/run.json").exists())
    process.communicate(b"\x03", timeout=60)
    assert process.returncode == 130
    assert states("q") == {"a": "stopped", "b": "waiting"}
    assert Path("signals.txt").read_text() == "told\n"


def test_a_run_that_a_killed_queue_left_is_waited_for(here: Path) -> None:
    write_acts(a=[{"status": "finished", "seconds": 2}])
    queue = start("train", "a.yaml", "b.yaml", "--output", "q")
    wait_for(lambda: Path("q/a/run.json").exists())
    code, said, error = prefloop("train", "--resume", "q")
    assert (code, error) == (2, "error: queue 'q' is in use by another process; stop that first.\n")
    queue.kill()
    queue.wait()
    assert queue.stdout
    queue.stdout.close()  # the run prints on, and there is nobody to read it
    assert states("q") == {"a": "running", "b": "waiting"}
    code, said, _ = prefloop("train", "--resume", "q")
    assert said.startswith("The queue was killed, and 'a' of it goes on. Waiting for its end.\n")
    assert (code, tries()) == (0, ["a", "b"])


def test_a_queue_is_taken_up_in_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs begin where it was made, which relative paths are meant from."""
    write_acts(a=[{"exit": 2}])
    assert prefloop("train", "a.yaml", "b.yaml", "--output", "q")[0] == 1
    (here / "elsewhere").mkdir()
    (here / "q").rename(here / "elsewhere" / "moved")
    monkeypatch.chdir(here / "elsewhere")
    assert prefloop("train", "--resume", "moved", "--retry-failed")[0] == 0
    monkeypatch.chdir(here)
    assert tries() == ["a", "b", "a"]
    assert states("elsewhere/moved") == {"a": "finished", "b": "finished"}


def test_the_runs_of_a_queue_are_listed(here: Path) -> None:
    write_acts(a=[{"exit": 2}], b=[{"exit": -signal.SIGKILL}])
    prefloop("train", "a.yaml", "b.yaml", "c.yaml", "--output", "runs/q")
    said = prefloop("runs", "list", "runs/q")[1]
    assert [line.split()[:2] for line in said.splitlines()] == [
        ["runs/q/a", "failed"],
        ["runs/q/b", "waiting"],
        ["runs/q/c", "finished"],
    ]
    listed = json.loads(prefloop("runs", "list", "runs/q", "--json")[1])
    assert [run["status"] for run in listed] == ["failed", "waiting", "finished"]
    Path("runs/other").mkdir()
    Path("runs/other/queue.json").write_text("{")
    said = prefloop("runs", "list")[1]
    assert [" ".join(line.split()) for line in said.splitlines()] == [
        "runs/other damaged",
        "runs/q a queue of which 1 of 3 runs are finished",
    ]


def test_a_queue_is_asked_to_end(here: Path) -> None:
    write_acts(a=[{"status": "finished", "seconds": 60}])
    queue = start("train", "a.yaml", "b.yaml", "--output", "q")
    wait_for(lambda: Path("q/a/run.json").exists())
    code, said, _ = prefloop("runs", "stop", "q", "--wait")
    assert (code, said) == (0, "'q' is a queue of which 0 of 2 runs are finished.\n")
    assert queue.wait(timeout=60) == 130
    assert prefloop("runs", "stop", "q")[2] == "error: 'q' is not going on.\n"
    queue.communicate()


MISTAKES: list[tuple[list[str], str]] = [
    (["gone.yaml", "a.yaml"], "gone.yaml: there is no such file."),
    (
        ["a.yaml", "wrong.yaml", "--seeds", "2"],
        "wrong.yaml:1: modell: there is no such option. Did you mean 'model'?",
    ),
    (["a.yaml", "--seeds", "2", "--set", "output=x"], "--set output=x: several runs cannot share a folder."),
    (
        ["a.yaml", "--seeds", "2", "--set", "output.path=x", "--dry-run"],
        "--set output.path=x: several runs cannot",
    ),
    (
        ["a.yaml", "--seeds", "2", "--output", "full"],
        "--output: 'full' is not empty; give a new or empty folder.",
    ),
    (["a.yaml", "--seeds", "2", "--output", "a.yaml/x"], "--output: cannot write to 'a.yaml/x': "),
    (["a.yaml", "--seeds", "2", "--output", "a.yaml"], "--output: cannot write to 'a.yaml': "),
    (
        ["a.yaml", "--output", "x"],
        "--output names the folder of several runs; for one write --set output=DIR.",
    ),
    (["a.yaml", "--retry-failed"], "--retry-failed goes with --resume:"),
    (
        ["--resume", "full", "--seeds", "2"],
        "--resume goes on with what is there: leave out --grid, --seeds and",
    ),
    (["--resume", "full", "--retry-failed"], "--retry-failed is for a queue, and 'full' is none:"),
    (
        ["--resume", "q", "--set", "loss.beta=1"],
        "'q' is a queue, which goes on as it is: --set is for one of its",
    ),
    (
        ["/dev/stdin", "a.yaml"],
        "/dev/stdin: is a pipe, which is read once. For several runs write it to a file.",
    ),
    (["--resume", "damaged"], "'damaged/queue.json' cannot be read: "),
    (["a.yaml", "--seeds", "2", "--output", "q/x"], "--output: 'q/x' lies in the folder of the queue '"),
    (
        ["a.yaml", "--seeds", "2", "--output", "q"],
        "--output: 'q' is not empty; give a new or empty folder. To go on",
    ),
]


@pytest.mark.parametrize(
    ("given", "says"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_is_a_line_and_nothing_is_written(here: Path, given: list[str], says: str) -> None:
    Path("wrong.yaml").write_text("modell: x\n" + FILE)
    for folder, content in {"full": "", "damaged": '{"runs": [{"nam": 1}]}', "q": '{"runs": []}'}.items():
        Path(folder).mkdir()
        (Path(folder) / ("queue.json" if content else "file")).write_text(content)
    before = sorted(here.rglob("*"))
    code, said, error = prefloop("train", *given)
    assert (code, said) == (2, "")
    assert error.startswith(f"error: {says}")
    assert len(error.splitlines()) == 1
    assert sorted(here.rglob("*")) == before


def test_a_queue_is_no_run(here: Path) -> None:
    Path("q").mkdir()
    Path("q/queue.json").write_text('{"runs": []}')
    code, _, error = prefloop("runs", "show", "q")
    assert code == 2
    assert (
        error == "error: 'q' holds no run: there is no run.json in it. It is a queue: name one of its runs.\n"
    )


@pytest.mark.parametrize("seeds", ["0", "-1", "x"])
def test_a_number_of_seeds_is_one_or_more(here: Path, seeds: str) -> None:
    code, _, error = prefloop("train", "a.yaml", "--seeds", seeds)
    assert code == 2
    assert "--seeds" in error


def test_the_lock_of_a_folder_is_one_process_alone(here: Path) -> None:
    Path("q").mkdir()
    with take(Path("q"), "it"):
        assert int(Path("q/.lock").read_bytes()) == os.getpid()
        with pytest.raises(Exception, match="it is in use by another process"):
            take(Path("q"), "it")
    take(Path("q"), "it").close()


def start(*arguments: str) -> subprocess.Popen[str]:
    """`prefloop` in a process of its own, whose runs are stand-ins as well."""
    command = command_of(*arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def command_of(*arguments: str) -> list[str]:
    fake = sys.executable
    real = Path(fake).read_text().splitlines()[0].removeprefix("#!")
    return [real, "-c", AS_QUEUE, fake, *arguments]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
