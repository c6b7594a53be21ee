"""``python rank_program.py FOLDER STEPS SILENT_AFTER``: a rank that only meets the others in collectives.

It writes its process's number into FOLDER, says what a run says to its parent, and counts the starts. Where
FOLDER has a file ``break``, rank 1 loses mlx's connections after three steps, and the file, and lives on.
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
                (folder / "break").unlink()
                break_connections()
            if ranks.size > 1:
                ranks.summed(mx.ones(64))
        if ranks.first:
            print(f"{steps} steps with {ranks.size} ranks", flush=True)


def break_connections() -> None:
    """Put sockets without a connection in the place of mlx's, as they are after a time-out of TCP.

    The others hear of nothing, as the old ones stay open.
    """
    hosts = json.loads(Path(os.environ["MLX_HOSTFILE"]).read_text())
    ports = {int(address.rpartition(":")[2]) for [address] in hosts}
    for number in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        with suppress(OSError):
            known = socket.socket(fileno=os.dup(number))
            if {known.getsockname()[1], known.getpeername()[1]} & ports:
                os.dup2(socket.socket().detach(), number)
            known.detach()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
