"""What ranks exchange in a step, many times over: whether it ever stalls, and how long it takes.

    python -m benchmarks.collectives --ranks 3 --steps 10000

Each step has the exchanges of a step of training: completions and verdicts as JSON, and one buffer of the
size of the gradient of 504 LoRA factors of 64 x 8. Every sum and every text that arrives is checked. A step
that takes longer than ``--limit`` seconds ends it as stalled.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

SIZE = 504 * 64 * 8


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collectives")
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--limit", type=int, default=120)
    asked = parser.parse_args()
    if "MLX_RANK" in os.environ:
        exchange(asked.steps, asked.limit)
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        hosts, sockets = Path(folder) / "hosts.json", [socket.socket() for _ in range(asked.ranks)]
        for one in sockets:
            held.enter_context(one).bind(("127.0.0.1", 0))
        hosts.write_text(json.dumps([[f"127.0.0.1:{one.getsockname()[1]}"] for one in sockets]))
        held.pop_all().close()
        command = [sys.executable, "-m", "benchmarks.collectives", *sys.argv[1:]]
        shared = {**os.environ, "MLX_HOSTFILE": str(hosts)}
        ranks = [
            subprocess.Popen(command, env={**shared, "MLX_RANK": str(rank)}) for rank in range(asked.ranks)
        ]
        codes = [rank.wait() for rank in ranks]
    print("no stall" if not any(codes) else f"stalled or failed: exit codes {codes}")
    sys.exit(any(codes))


def exchange(steps: int, limit: int) -> None:
    """The exchanges of one rank. A stall ends the process by SIGALRM."""
    import mlx.core as mx

    from prefloop.ranks.group import joined

    ranks = joined()
    expected, slowest, began = ranks.size * (ranks.size + 1) / 2, 0.0, time.perf_counter()
    for step in range(1, steps + 1):
        signal.alarm(limit)
        started = time.perf_counter()
        said: list[Any] = ranks.exchange([[ranks.rank, "é" * (step % 50)]] * (1 + (step + ranks.rank) % 4))
        assert [one[0] for one in said] == [[rank, "é" * (step % 50)] for rank in range(ranks.size)]
        assert [sum(one) for one in ranks.exchange([ranks.rank] * 8)] == [8 * r for r in range(ranks.size)]
        total = ranks.summed(mx.full((SIZE,), float(ranks.rank + 1) * (step % 7)))
        assert mx.array_equal(total, mx.full((SIZE,), expected * (step % 7))).item()
        ranks.agree()
        slowest = max(slowest, time.perf_counter() - started)
        if ranks.first and step % 1000 == 0:
            mean = 1000 * (time.perf_counter() - began) / step
            print(f"{step:,} steps, {mean:.1f} ms each, the slowest {slowest:.2f} s", flush=True)
    signal.alarm(0)


if __name__ == "__main__":
    main()
