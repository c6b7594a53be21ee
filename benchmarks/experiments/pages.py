"""Writes tables and numbers from the records into the pages of docs/experiments.

What stands between ``<!-- table: EXPERIMENT -->`` or ``<!-- number: EXPERIMENT / ARM / MEASURE -->`` and
``<!-- end -->`` is replaced. ``ARM - ARM`` is the difference, seed by seed; ``ARM at step N`` is not the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks.experiments.intervals import SHARES, interval
from benchmarks.experiments.records import Records
from benchmarks.experiments.training import Arm
from benchmarks.pages import markdown

COLUMNS = {
    "freshness": ("win_rate", "accuracy", "length"),
    "losses": ("win_rate", "accuracy"),
    "exploration": ("jackpots", "found", "worth", "accuracy"),
    "labels": ("right_labels", "win_rate", "accuracy"),
    "faults": ("right_labels", "win_rate", "accuracy", "length"),
}
HEADS = {
    "win_rate": "win rate",
    "right_labels": "labels that are right",
    "accuracy": "right answers",
    "length": "characters",
    "jackpots": "jackpots",
    "found": "seeds with over 5 % jackpots",
    "worth": "mean worth",
}
FOUND = 0.05
_PLACE = re.compile(
    r"(?P<open><!-- (?P<kind>table|number): (?P<name>[^>]+?) -->).*?(?P<close><!-- end -->)", re.DOTALL
)

Row = Mapping[str, float]
Experiments = Mapping[str, Callable[[], list[Arm]]]


def render(page: str, records: Records, experiments: Experiments) -> str:
    """The page with every table and number in it written anew."""

    def written(match: re.Match[str]) -> str:
        if match["kind"] == "table":
            text = f"\n\n{table(match['name'], experiments[match['name']](), records)}\n\n"
        else:
            text = number(match["name"], records, experiments)
        return match["open"] + text + match["close"]

    return _PLACE.sub(written, page)


def table(name: str, found: Sequence[Arm], records: Records) -> str:
    """One row for each arm: means at the end, with their intervals."""
    columns = COLUMNS[name]
    rows = []
    for arm in found:
        curves = records.curves(arm).values()
        rows.append([arm.name, *(_shown([curve[-1] for curve in curves], c) for c in columns)])
    return markdown(["", *(HEADS[c] for c in columns)], rows, numbers=False)


def number(name: str, records: Records, experiments: Experiments) -> str:
    """What one arm came to, or the mean difference of two, with its interval."""
    experiment, wanted, measure = name.split(" / ")
    by_name = {arm.name: arm for arm in experiments[experiment]()}
    ours, *theirs = (_rows(by_name, part, records) for part in wanted.split(" - "))
    if not theirs:
        return _shown(ours, measure)
    differences = [a[measure] - b[measure] for a, b in zip(ours, theirs[0], strict=True)]
    return interval(differences).words(sign=True)


def _rows(by_name: Mapping[str, Arm], name: str, records: Records) -> list[Row]:
    """What was measured with each seed: at the end, or, for "ARM at step N", then."""
    arm, _, step = name.partition(" at step ")
    curves = records.curves(by_name[arm]).values()
    return [row for c in curves for row in c if row["step"] == (float(step) if step else c[-1]["step"])]


def _shown(rows: Sequence[Row], measure: str) -> str:
    if measure == "found":
        return f"{sum(row['jackpots'] > FOUND for row in rows)} of {len(rows)}"
    return interval([row[measure] for row in rows], share=measure in SHARES).words()
