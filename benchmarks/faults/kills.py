"""Signals at random moments of real training processes, which are resumed until they are done."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from attrs import evolve, field, frozen
from benchmarks.faults.checks import SETTINGS, Outcome, Twin, unreadable
from benchmarks.harness.workers import ROOT

KINDS = {
    "SIGKILL while it starts": 1,
    "SIGKILL at a random moment of training": 3,
    "SIGKILL when a temporary file is seen": 3,
    "SIGKILL at a random file operation": 3,
    "SIGINT": 2,
    "SIGTERM": 2,
    "SIGINT twice": 1,
}
"""The kinds of signal, with how often each is drawn."""
KILLS_A_RUN = 8
OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
PATIENCE = 300.0
"""Seconds after which a process that does nothing is a fault in itself."""


@frozen
class Budget:
    """How many kills are left, shared by the runs that go on at once."""

    kills: list[str]
    _lock: Any = field(factory=Lock)

    def take(self) -> str | None:
        with self._lock:
            return self.kills.pop() if self.kills else None


def kill_runs(folder: Path, twin: Twin, kills: int, seed: int, workers: int) -> list[Outcome]:
    """Spend so many kills on runs, some at once, and hold each run's end against the `twin`."""
    dice = random.Random(seed)
    budget = Budget(dice.choices(list(KINDS), list(KINDS.values()), k=kills))

    def work(worker: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        own = random.Random(f"{seed} {worker}")
        runs = 0
        while budget.kills:
            outcomes += kill_run(folder / f"killed-{worker}-{runs}", twin, budget, own)
            runs += 1
        return outcomes

    with ThreadPoolExecutor(workers) as pool:
        return [outcome for found in pool.map(work, range(workers)) for outcome in found]


def kill_run(run: Path, twin: Twin, budget: Budget, dice: random.Random) -> list[Outcome]:
    """Kill one run again and again, then let it finish."""
    config = run.with_suffix(".yaml")
    config.write_text(json.dumps({**SETTINGS, "output": str(run)}))
    outcomes: list[Outcome] = []
    judged = b""
    while len(outcomes) < KILLS_A_RUN and (kind := budget.take()):
        fault = _kill(kind, run, dice)
        if fault is None:
            budget.kills.append(kind)  # it was done before that; this signal is still to come
            break
        now = (run / "judgements.jsonl").read_bytes() if (run / "judgements.jsonl").exists() else b""
        lost = Counter({"unreadable": len(unreadable(run)), "labels lost": int(not now.startswith(judged))})
        lost.update(fault)
        judged = now[: now.rfind(b"\n") + 1]
        outcomes.append(Outcome(kind, losses=+lost))
    finished = subprocess.run(_command(run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    if not outcomes:
        return []
    end = Counter(["not resumed"]) if finished.returncode else twin.losses(run)
    outcomes[-1].losses.update(end)
    return [evolve(outcome, same_end=int(not end)) for outcome in outcomes]


def _command(run: Path) -> list[str]:
    return [sys.executable, "-m", "prefloop", *_arguments(run)]


def _arguments(run: Path) -> list[str]:
    started = (run / "run.json").exists()
    return ["train", "--resume", str(run)] if started else ["train", str(run.with_suffix(".yaml"))]


def _kill(kind: str, run: Path, dice: random.Random) -> list[str] | None:
    """Take the run up and end the process in the way of `kind`; None where it was done before that.

    What was wrong with its end: a traceback, or an exit code of another end.
    """
    if "file operation" in kind:
        operation = str(dice.randint(1, 120))
        command = [sys.executable, "-m", __name__, operation, str(run), *_arguments(run)]
        return [] if _start(command).wait(PATIENCE) == -signal.SIGKILL else None
    if "SIGKILL" not in kind:
        return _interrupt(kind, run, dice)
    before = _taken(run)
    process = _start(_command(run))
    if "starts" in kind:
        time.sleep(dice.uniform(0.0, 4.0))
    elif _wait(process, lambda: _taken(run) > before):
        if "temporary" in kind:
            skipped = dice.randint(0, 8)
            while skipped >= 0 and _wait(process, lambda: _temporary(run)):
                skipped -= 1
                time.sleep(dice.uniform(0.0, 0.004))
        else:
            time.sleep(dice.uniform(0.0, 2.0))
    process.kill()
    return [] if process.wait() == -signal.SIGKILL else None


def _interrupt(kind: str, run: Path, dice: random.Random) -> list[str] | None:
    """Send what a terminal or a system sends, once or twice: evaluations and loading are met as well."""
    number = signal.SIGTERM if "SIGTERM" in kind else signal.SIGINT
    said = run.with_suffix(".err")
    with said.open("wb") as errors:
        process = subprocess.Popen(_command(run), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
    time.sleep(dice.uniform(0.0, 6.0))
    for _ in range(2 if "twice" in kind else 1):
        process.send_signal(number)
        time.sleep(dice.uniform(0.0, 0.3))
    code = process.wait(PATIENCE)
    if code == 0:
        return None
    traceback = b"Traceback" in (text := said.read_bytes())
    if traceback and b"/prefloop/" not in text:
        return []  # Python's own, from the moments in which it starts and has not met prefloop
    return ["traceback"] * traceback + ["not resumed"] * (code not in (130, -number))


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _taken(run: Path) -> int:
    """When the run was last taken up by a process."""
    lock = run / ".lock"
    return lock.stat().st_mtime_ns if lock.exists() else 0


def _temporary(run: Path) -> bool:
    """Whether something is being written or removed at this moment."""
    for folder in (run, run / "checkpoints"):
        try:
            if any(name.endswith((".tmp", ".old")) for name in os.listdir(folder)):  # noqa: PTH208 (fast)
                return True
        except FileNotFoundError:
            continue
    return False


def _wait(process: subprocess.Popen[bytes], condition: Any) -> bool:
    """Poll without a pause worth naming; False where the process ended first."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.0002)
    return True


def die_at(operation: int, run: str) -> None:
    """Kill this very process when it is about to change something in `run` for the `operation`-th time.

    Python tells its audit hooks of each file operation before it does it, so the program under test is the
    one that users run.
    """
    left = operation

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in OPERATIONS or not arguments:
            return
        inside = str(arguments[0]).startswith(run) or (
            event in ("os.remove", "os.rmdir") and arguments[1] >= 0
        )
        left -= inside
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


if __name__ == "__main__":
    die_at(int(sys.argv[1]), sys.argv[2])
    sys.argv = ["prefloop", *sys.argv[3:]]
    runpy.run_module("prefloop", run_name="__main__", alter_sys=True)
