"""``python -m benchmarks.others losses|learning [--seeds N]``: results, and the page, written anew."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from attrs import asdict
from benchmarks.experiments.intervals import STUDENT
from benchmarks.others import page
from benchmarks.others.workshop import Workshop

from prefloop import UserError


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser("python -m benchmarks.others", description=__doc__)
    found.add_argument("command", choices=COMMANDS)
    found.add_argument("--seeds", type=int, default=5, help="seeds of each row, from 2 to 10")
    found.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "prefloop-others",
        help="where environments and finished runs are kept",
    )
    return found


def losses(shop: Workshop, _: argparse.Namespace) -> dict[str, Any]:
    """Ask TRL anew, keep its answers for the tests, and compare."""
    from benchmarks.others.losses import FIXTURE, compare

    answers = shop.run("trl", None, module="losses_trl")
    FIXTURE.write_text(answers + "\n", encoding="utf-8")
    fixture = json.loads(answers)
    comparisons = [asdict(c) | {"value_difference": c.value_difference} for c in compare(fixture)]
    return {"versions": fixture["versions"], "comparisons": comparisons}


def learning(shop: Workshop, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train what has not been trained yet, and put everything together."""
    from benchmarks.others.learning import measure

    most = len(STUDENT) + 1
    if not 2 <= arguments.seeds <= most:
        raise UserError(f"--seeds: {arguments.seeds} is not a number from 2 to {most}.")
    return measure(shop, range(arguments.seeds))


COMMANDS = {"losses": losses, "learning": learning}


def main() -> int:
    """Run one command. Returns 2 where it cannot be done."""
    arguments = parser().parse_args()
    try:
        found = COMMANDS[arguments.command](Workshop(arguments.folder), arguments)
        page.save(arguments.command, {"date": f"{datetime.date.today()}", **found})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
