"""``python rank_program.py FOLDER STEPS SILENT_AFTER``: a rank that only meets the others in collectives.

It writes its process's number into FOLDER, says what a run says to its parent, and counts the starts.
"""

from __future__ import annotations

import os
import sys
import time
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
        for _ in range(steps):
            time.sleep(0.05)
            if ranks.size > 1:
                ranks.summed(mx.ones(64))
        if ranks.first:
            print(f"{steps} steps with {ranks.size} ranks", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
