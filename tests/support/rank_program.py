"""``python rank_program.py FOLDER STEPS SILENT_AFTER``: a rank that only meets the others in collectives.

It writes its process's number into FOLDER, says what a run says to its parent, and counts the starts. Where
FOLDER has a file ``break``, rank 1 loses mlx's connections after three steps, and the file, and lives on.
They are ``closed``, or ``silent`` for good, as the file says.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from prefloop.cli.ranks import as_rank
from prefloop.ranks.parent import attach, tell


def main(folder: Path, steps: int, silent_after: float) -> None:
    attach()
    import mlx.core as mx

    from prefloop.ranks.group import joined

    with as_rank(silent_after):
        ranks = joined()
        tell(run=str(folder))
        (folder / f"{ranks.rank}.pid").write_text(str(os.getpid()))
        for step in range(steps):
            time.sleep(0.05)
            if ranks.rank == 1 and step == 3 and (folder / "break").exists():
                kind = (folder / "break").read_text()
                (folder / "break").unlink()
                break_connections(closed=kind == "closed")
            if ranks.size > 1:
                ranks.summed(mx.ones(64))
        if ranks.first:
            print(f"{steps} steps with {ranks.size} ranks", flush=True)


def break_connections(closed: bool) -> None:
    """Put other sockets in the place of mlx's: without a connection, or such that nothing comes from."""
    ours, kept = socket.socketpair()
    ours.setblocking(False)
    kept.detach()
    hosts = json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text())
    ports = {int(address.rpartition(":")[2]) for [address] in hosts}
    for number in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        with suppress(OSError):
            known = socket.socket(fileno=os.dup(number))
            ends = [known.getsockname(), known.getpeername()] if known.family == socket.AF_INET else []
            if ports & {port for _, port in ends}:
                os.dup2(socket.socket().detach() if closed else ours.fileno(), number)
            known.detach()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
