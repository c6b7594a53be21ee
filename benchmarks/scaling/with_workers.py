"""``python -m benchmarks.scaling.with_workers CONFIG WORKERS``: a run, and its workers, on this loopback."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

FIRST_PORT = 21_400
PATIENCE = 120
"""Seconds for a worker to load its model."""


def main(config: str, model: str, count: int) -> int:
    folder = Path(config).parent
    token = folder / "token"
    workers, addresses = [], []
    try:
        for place in range(count):
            command = ["worker", "--model", model, "--port", str(FIRST_PORT + place)]
            workers.append(_prefloop([*command, "--token-file", str(token)]))
            addresses.append(f"http://127.0.0.1:{FIRST_PORT + place}")
            _wait_for(addresses[-1])
        listed = f"sampler.workers=[{', '.join(addresses)}]"
        return _prefloop(
            ["train", config, "--set", listed, "--set", f"sampler.token_file={token}"], quiet=False
        ).wait()
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()


def _prefloop(arguments: list[str], *, quiet: bool = True) -> subprocess.Popen[bytes]:
    output = subprocess.DEVNULL if quiet else None
    return subprocess.Popen([sys.executable, "-m", "prefloop", *arguments], stdout=output)


def _wait_for(address: str) -> None:
    """Until it answers anything, if only that it wants a token."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(address, timeout=5)
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the worker at {address} does not answer")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
