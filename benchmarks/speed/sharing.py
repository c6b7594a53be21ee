"""What a machine measured, as a block to paste into an issue.

It names the device, the versions and the results, but no path, user or host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.harness import records
from benchmarks.harness.pages import Cells, markdown
from benchmarks.speed.pairing import PHASES
from benchmarks.speed.tables import counts, shown

Row = dict[str, Any]
FIGURES = ("step_seconds", *PHASES)
MEGABYTES = ("held_mb", "peak_mb", "rss_mb")
HEADS = (
    "row",
    "side",
    *(f"{name.removesuffix('_seconds')}, s" for name in FIGURES),
    "tokens sampled a second",
    *(f"{name.removesuffix('_mb')}, MB" for name in MEGABYTES),
    "rounds, steps",
)


def block(results: Iterable[Row], missing: Mapping[str, str]) -> str:
    """Markdown that folds up: what was measured with what, a line for each side of each row, and JSON.

    `missing` says why a row or a side was not measured.
    """
    found = list(results)
    device = records.values(found, "device")
    lines = [_line(row, name) for row in found for name in row["sides"]]
    unequal = {row["row"]["name"]: "; ".join(row["unequal"]) for row in found if row["unequal"]}
    parts = [
        f"<details><summary>prefloop's speed: {device}, {records.values(found, 'chip')}</summary>",
        records.origin(found),
        markdown(HEADS, lines),
        "\n".join(f"- {name}: not measured, {why}" for name, why in missing.items()),
        "\n".join(f"- {name}: the sides' work differs, {why}" for name, why in unequal.items()),
        f"```json\n{json.dumps(found)}\n```",
        "</details>",
    ]
    return "\n\n".join(part for part in parts if part)


def _line(row: Row, name: str) -> Cells:
    side = row["sides"][name]
    return (
        row["row"]["name"],
        shown(row, name),
        *(f"{side[figure]:.3f}" for figure in FIGURES),
        f"{row['work'][name]['sampled'] / side['sampling_seconds']:.0f}",
        *("" if side[size] is None else f"{side[size]:.0f}" for size in MEGABYTES),
        counts(row, name),
    )
