"""Ranks that are killed at random moments of runs that several share.

Half of the runs are started again by themselves (``--restart``), the other half by hand, with any number of
ranks. Whatever the number, the end is held against a run of one process: the same labels, each once, and the
same adapters up to rounding.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen
from benchmarks.faults.checks import SETTINGS, Outcome, unreadable
from benchmarks.harness.workers import ROOT
from safetensors.numpy import load_file

KILLS_A_RUN = 4
SILENT_AFTER = 10.0
SET_TIME = 15.0
"""Seconds in which all ranks are gone once one was killed, or the run is hung."""
PATIENCE = 300.0
TOLERANCE = 1e-5
"""Largest difference of the adapters, relative to their largest value."""
RUN: dict[str, Any] = {
    **{key: SETTINGS[key] for key in ("model", "prompts", "sampler", "adapter")},
    "judge": {"use": "rule", "prefer": ["Sure", "hope"], "avoid": ["Really"], "length": "longer"},
    "training": {"batch_size": 5, "iters": 12, "save_every": 2, "learning_rate": 1e-3},
}


@frozen
class Same:
    """What a run of one process came to, and what another one differs in."""

    adapters: dict[str, Any]
    labels: Counter[str]

    @classmethod
    def of(cls, run: Path) -> Same:
        return cls(load_file(run / "adapters.safetensors"), labels(run))

    def losses(self, run: Path) -> Counter[str]:
        end = Same.of(run)
        return +Counter(
            {
                "labels lost": (self.labels - end.labels).total(),
                "labels repeated": (end.labels - self.labels).total(),
                "other adapters": int(self.distance(end) > TOLERANCE),
            }
        )

    def distance(self, other: Same) -> float:
        """The largest difference of the adapters, relative to their largest value."""
        if self.adapters.keys() != other.adapters.keys():
            return float("inf")
        pairs = [(value, other.adapters[name]) for name, value in self.adapters.items()]
        largest = max(np.abs(value).max() for value, _ in pairs)
        return float(max(np.abs(one - two).max() for one, two in pairs) / largest)


def labels(run: Path) -> Counter[str]:
    """What was judged, and how: who gave the answers' ids, and when it was, is all the same."""
    rows = [json.loads(line) for line in (run / "judgements.jsonl").read_bytes().splitlines()]
    sides = ("first", "second")
    about = [(r["step"], r["prompt_id"], [r[s]["tokens"] for s in sides], r["probability"]) for r in rows]
    return Counter(map(json.dumps, about))


@frozen
class Tally:
    """What became of all the kills."""

    ended: Counter[str] = field(factory=Counter)
    waits: list[float] = field(factory=list)
    """Seconds from a kill until all ranks of its start were gone."""
    distances: list[float] = field(factory=list)
    tracebacks: list[str] = field(factory=list)
    """What runs wrote that showed one."""

    def said(self) -> str:
        ends = ", ".join(f"{count} {how}" for how, count in self.ended.items())
        waits = sorted(self.waits)
        middle, longest = waits[len(waits) // 2], waits[-1]
        furthest = max(self.distances, default=0.0)
        return (
            f"{len(waits)} ranks killed: {ends}; all of a start gone {middle:.1f} s later (median), at most "
            f"{longest:.1f} s; adapters differ by {furthest:.1e} of their largest value at most"
        )


def kill_ranks(folder: Path, twin: Same, kills: int, seed: int, echo: Callable[[str], None]) -> list[Outcome]:
    """Spend so many kills, a few a run, and let each run finish after them."""
    dice, tally = random.Random(seed), Tally()
    outcomes: list[Outcome] = []
    while len(outcomes) < kills:
        wanted = min(KILLS_A_RUN, kills - len(outcomes))
        run = folder / f"ranks-{len(outcomes)}"
        if found := _kill_run(run, twin, wanted, dice, tally):
            outcomes += found
            echo(f"{len(outcomes)} of {kills}: {dict(tally.ended)}")
    echo("\n".join([tally.said(), *tally.tracebacks]))
    return outcomes


def _kill_run(run: Path, twin: Same, kills: int, dice: random.Random, tally: Tally) -> list[Outcome]:
    config = run.with_suffix(".yaml")
    config.write_text(json.dumps({**RUN, "output": {"path": str(run), "report": False}}))
    restarts = kills if dice.random() < 0.5 else 0
    outcomes: list[Outcome] = []
    process: subprocess.Popen[bytes] | None = None
    for _ in range(kills):
        if process is None or process.poll() is not None:
            process = _start(run, dice.randint(2, 4), restarts)
        before = _judged(run)
        how, losses = _kill(run, process, dice, tally)
        if how is None:
            break
        now = _judged(run)
        losses["labels lost"] += int(not now.startswith(before))
        losses["unreadable"] += len(unreadable(run)) if run.exists() and process.poll() is not None else 0
        outcomes.append(Outcome(how, losses=+losses))
        tally.ended["hung" if losses["hung"] else "ended"] += 1
        if not restarts:
            process.wait(PATIENCE)
    return _finish(run, process, twin, outcomes, dice, tally)


def _finish(
    run: Path,
    process: subprocess.Popen[bytes] | None,
    twin: Same,
    outcomes: list[Outcome],
    dice: random.Random,
    tally: Tally,
) -> list[Outcome]:
    """Let the run come to its end, and hold that against the twin."""
    if not outcomes:
        return []
    if process is None or process.poll() is not None:
        process = _start(run, dice.randint(1, 3), 0)
    code = process.wait(PATIENCE)
    said = run.with_suffix(".err").read_text(errors="replace")
    losses = Counter(["not resumed"]) if code else twin.losses(run)
    if "Traceback" in said:
        losses["traceback"] += 1
        tally.tracebacks.append(said)
    if not code:
        tally.ended["runs resumed to their end"] += 1
        tally.distances.append(twin.distance(Same.of(run)))
    outcomes[-1].losses.update(+losses)
    same = int(not +losses)
    return [Outcome(o.kind, same_end=same, losses=o.losses) for o in outcomes]


def _start(run: Path, ranks: int, restarts: int) -> subprocess.Popen[bytes]:
    begun = ["--resume", str(run)] if (run / "run.json").exists() else [str(run.with_suffix(".yaml"))]
    options = ["--ranks", str(ranks), "--restart", str(restarts), "--silent-after", str(SILENT_AFTER)]
    with run.with_suffix(".err").open("ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "prefloop", "train", *begun, *options],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def _kill(
    run: Path, process: subprocess.Popen[bytes], dice: random.Random, tally: Tally
) -> tuple[str | None, Counter[str]]:
    """Kill a rank of `process` at a random moment; None where it has ended before that."""
    if dice.random() < 0.7:  # in training, or in the evaluations around it
        before = _taken(run)
        _wait(process, lambda: _taken(run) > before)
    moment = time.monotonic() + dice.uniform(0.0, 8.0)
    _wait(process, lambda: time.monotonic() > moment)
    ranks = _ranks_of(process.pid)
    if not ranks or process.poll() is not None:
        return None, Counter()
    try:
        os.kill(dice.choice(ranks), signal.SIGKILL)
    except ProcessLookupError:
        return None, Counter()
    killed = time.monotonic()
    while set(ranks) & set(_ranks_of(process.pid)) and time.monotonic() < killed + 2 * SET_TIME:
        time.sleep(0.1)
    wait = time.monotonic() - killed
    tally.waits.append(wait)
    return "SIGKILL of one of several ranks", Counter({"hung": int(wait > SET_TIME)})


def _taken(run: Path) -> int:
    """When the run was last taken up by a process."""
    lock = run / ".lock"
    return lock.stat().st_mtime_ns if lock.exists() else 0


def _wait(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.02)


def _judged(run: Path) -> bytes:
    """The whole lines of the ledger so far."""
    ledger = run / "judgements.jsonl"
    lines = ledger.read_bytes() if ledger.exists() else b""
    return lines[: lines.rfind(b"\n") + 1]


def _ranks_of(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]
