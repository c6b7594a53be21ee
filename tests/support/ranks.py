"""Ranks on loopback, each a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path


def start(ranks: int, folder: Path, *command: str, **environment: str) -> list[subprocess.Popen[str]]:
    """Start `command`, arguments of Python, as so many ranks; what they need to meet is in `folder`."""
    hosts = folder / f"hosts-{ranks}.json"
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(ranks)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        hosts.write_text(json.dumps([[f"127.0.0.1:{one.getsockname()[1]}"] for one in sockets]))
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ, **environment}
    met = [{}] if ranks == 1 else [{"MLX_RANK": str(i), "MLX_HOSTFILE": str(hosts)} for i in range(ranks)]
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=alone | own,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
        )
        for own in met
    ]


def ended(processes: list[subprocess.Popen[str]], seconds: float = 120) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each rank. None outlives the test."""
    try:
        return [(process.wait(seconds), *process.communicate()) for process in processes]
    finally:
        for process in processes:
            process.kill()
