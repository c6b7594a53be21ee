"""Runs on this machine, as ranks and with workers, beside what the calculator says of them.

Each run has a loopback of its own, whose bytes the kernel counts; what one step adds is the difference of a
long run and a short one. Once the wire is as fast as the machine, once it is held to `MBITS`: the seconds
that this adds to a step are those of its bytes. Every process has one thread.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from attrs import evolve
from benchmarks.harness import records
from benchmarks.harness.environments import installed
from benchmarks.harness.internals import Link, pushed_bytes, ranks_bytes, ways
from benchmarks.scaling.bodies import Body, threads_of
from benchmarks.scaling.simulating import read
from benchmarks.scaling.wires import run_counted

LENGTHS = (2, 12)
"""Steps of the short run and of the long one."""
MBITS = 1.0
PACKET = 66
"""Headers of a packet on the loopback: Ethernet 14, IP 20, TCP 32. The rest is what programs sent."""


def measure_ranks(body: Body, ranks: int, planned: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes and seconds of a step of so many ranks, measured and worked out.

    `planned` are the body's work and phases, measured with one thread.
    """
    arguments = ["--ranks", str(ranks)] if ranks > 1 else []
    measured = _measure(body.settings, ["-m", "prefloop", "train"], arguments, slowly=ranks > 1)
    work, phases = read(planned)
    work = evolve(work, tokens=measured["tokens"])
    each = [phases.faster(_share_of_cores(ranks))] * ranks
    free = Link(gbits=1e6, latency_ms=0)
    if ranks == 1:
        return _row({"ranks": 1}, measured, 0.0, ways.one(work, phases).seconds)
    expected = ways.ranks(work, each, ranks, free)
    return _row({"ranks": ranks}, measured, ranks * ranks_bytes(work, ranks), expected.seconds)


def measure_workers(body: Body, workers: int, staleness: int, planned: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a run whose samples come from so many workers."""
    work, phases = read(planned)
    portion = -(-work.pairs // workers)
    remote = {
        "use": "remote",
        "workers": ["http://127.0.0.1:1"],
        "max_staleness": staleness,
        "portion": portion,
    }
    settings = {**body.settings, "sampler": {**body.settings["sampler"], **remote, "fallback": False}}
    program = ["-m", "benchmarks.scaling.with_workers"]
    measured = _measure(settings, program, [body.settings["model"], str(workers)])
    work = evolve(work, tokens=measured["tokens"])
    each = [phases.faster(_share_of_cores(1 + workers))] * (1 + workers)
    expected = ways.workers(work, each, 1 + workers, Link(gbits=1e6, latency_ms=0))
    moved = pushed_bytes(work, workers) + work.answer_bytes(work.pairs)
    seconds = expected.seconds if staleness else expected.synchronous
    return _row({"workers": workers, "staleness": staleness}, measured, moved, seconds)


def _share_of_cores(processes: int) -> float:
    """The speed of each of so many busy processes with one thread."""
    return min(1.0, len(os.sched_getaffinity(0)) / processes)


def _measure(
    settings: Mapping[str, Any], program: Sequence[str], arguments: Sequence[str], *, slowly: bool = False
) -> dict[str, Any]:
    """Bytes on the wire of a step, and its seconds; with `slowly`, those with a slow wire as well."""
    short, long = (_train(settings, steps, program, arguments) for steps in LENGTHS)
    slow = [_train(settings, n, program, arguments, MBITS)["seconds"] for n in LENGTHS] if slowly else None
    steps = LENGTHS[1] - LENGTHS[0]
    return {
        "bytes": (long["payload"] - short["payload"]) / steps,
        "seconds": (long["seconds"] - short["seconds"]) / steps,
        "slow": slow and (slow[1] - slow[0]) / steps,
        "tokens": long["tokens"],
    }


def _row(
    what: dict[str, int], measured: Mapping[str, Any], moved: float, seconds: float | None
) -> dict[str, Any]:
    return {
        **what,
        **measured,
        "planned_bytes": moved,
        "planned_seconds": seconds,
        "planned_slower": 8 * moved / (MBITS * 1e6),
        "load": os.getloadavg()[0],
        "provenance": records.provenance("cpu", installed(("prefloop", "mlx", "mlx-lm"))),
    }


def _train(
    settings: Mapping[str, Any],
    steps: int,
    program: Sequence[str],
    arguments: Sequence[str],
    mbits: float = 0,
) -> dict[str, Any]:
    """A run of so many steps in a network of its own: what programs sent, and the seconds of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        training = {**settings["training"], "iters": steps, "save_every": 0}
        output = {"path": f"{folder}/run", "report": False}
        config = Path(folder, "config.yaml")
        config.write_text(json.dumps({**settings, "training": training, "output": output}), "utf-8")
        counted = run_counted([*program, str(config), *arguments], mbits, threads_of(1))
        run = Path(folder, "run")
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = json.loads((run / "run.json").read_text(encoding="utf-8"))["summary"]["seconds"]
    lengths = [row["completion_length"] for row in map(json.loads, lines) if "completion_length" in row]
    return {
        "payload": counted.bytes - PACKET * counted.packets,
        "seconds": seconds,
        "tokens": fmean(lengths),
    }
