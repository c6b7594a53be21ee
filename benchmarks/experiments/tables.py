"""Tables and numbers of the experiments, for the pages in docs/experiments.

A page names a table ``EXPERIMENT`` and a number ``EXPERIMENT / ARM / MEASURE``. ``ARM - ARM`` is the
difference, seed by seed; ``ARM after N judgements`` and ``EXPERIMENT after N judgements`` are not the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from benchmarks.experiments.arm import Arm
from benchmarks.experiments.arms import EXPERIMENTS
from benchmarks.experiments.records import Records
from benchmarks.harness.pages import markdown
from benchmarks.harness.statistics import interval

COLUMNS = {
    "freshness": ("win_rate", "accuracy", "length"),
    "singles": ("win_rate", "accuracy", "length"),
    "pretrained": ("win_rate", "worth", "variety", "length"),
    "towards": ("win_rate", "bright", "cheerful", "nats", "perplexity", "facts", "variety", "words"),
    "goals": ("win_rate", "bright", "cheerful", "easy", "words", "finished", "nats", "facts", "right_labels"),
    "rates": ("win_rate", "cheerful", "nats", "perplexity", "facts", "variety"),
    "rare": ("shouts", "win_rate", "worth", "nats", "facts", "seconds"),
    "adapters": ("win_rate", "bright", "cheerful", "nats", "facts", "variety", "seconds"),
    "steps": ("win_rate", "bright", "cheerful", "nats", "facts", "variety"),
    "losses": ("win_rate", "accuracy"),
    "exploration": ("jackpots", "found", "worth", "accuracy"),
    "chain": ("chains", "chains found", "worth", "accuracy"),
    "no_trap": ("win_rate", "accuracy", "length"),
    "labels": ("right_labels", "win_rate", "accuracy"),
    "people": ("asked", "right_labels", "win_rate", "accuracy"),
    "faults": ("right_labels", "win_rate", "accuracy", "length"),
}
HEADS = {
    "win_rate": "win rate",
    "right_labels": "labels that are right",
    "asked": "labels of the person",
    "accuracy": "right answers",
    "length": "characters",
    "jackpots": "jackpots",
    "found": "seeds with over 5 % jackpots",
    "chains": "jackpots",
    "chains found": "seeds with over 5 % jackpots",
    "worth": "mean worth",
    "variety": "distinct-2",
    "bright": "VADER",
    "cheerful": "TextBlob",
    "easy": "reading ease",
    "words": "words",
    "finished": "finished",
    "shouts": "answers with an exclamation mark",
    "nats": "nats from the start",
    "perplexity": "perplexity",
    "facts": "facts known",
    "seconds": "seconds a step",
}
SHARES = frozenset(
    {"win_rate", "accuracy", "jackpots", "chains", "right_labels", "variety", "finished", "shouts", "facts"}
)
"""What is measured that lies between 0 and 1."""
FOUND = 0.05
NOT_YET = "not measured yet"
SOUGHT = {"found": "jackpots", "chains found": "chains"}

Row = Mapping[str, float]


@cache
def _on_record() -> Records:
    return Records()


def table(name: str) -> str:
    """The table of an experiment, from what is on record."""
    return table_of(name, EXPERIMENTS[_place(name)[0]](), _on_record())


def table_of(name: str, arms: Sequence[Arm], records: Records) -> str:
    """One row for each arm: means with their intervals, at the end or "after N judgements"."""
    experiment, judgements = _place(name)
    columns = COLUMNS[experiment]
    rows = []
    for arm in arms:
        found = measured(arm, judgements, records)
        rows.append([arm.name, *(shown(found, c) for c in columns)])
    return markdown(["", *(HEADS[c] for c in columns)], rows, numbers=False)


def number(name: str) -> str:
    """What one arm came to, or the mean difference of two, with its interval."""
    experiment, wanted, measure = name.split(" / ")
    by_name, records = {arm.name: arm for arm in EXPERIMENTS[experiment]()}, _on_record()
    ours, *others = (_rows(by_name, part, records) for part in wanted.split(" - "))
    if not others:
        return shown(ours, measure)
    (theirs,) = others
    if min(len(ours), len(theirs)) < 2:
        return NOT_YET
    return interval([a[measure] - b[measure] for a, b in zip(ours, theirs, strict=True)]).text(sign=True)


def _rows(by_name: Mapping[str, Arm], name: str, records: Records) -> list[Row]:
    """What was measured with each seed, for "ARM" or "ARM after N judgements"."""
    arm, judgements = _place(name)
    return measured(by_name[arm], judgements, records)


def _place(name: str) -> tuple[str, int | None]:
    """What comes before " after N judgements", and N."""
    found = re.fullmatch(r"(.*) after (\d+) judgements", name)
    return (found[1], int(found[2])) if found else (name, None)


def measured(arm: Arm, judgements: int | None, records: Records) -> list[Row]:
    """What was measured with each seed after so many judgements, or at the end."""
    curves = records.curves(arm).values()
    if judgements is None:
        return [curve[-1] for curve in curves]
    return [row for curve in curves for row in curve if judged(arm, row) == judgements]


def judged(arm: Arm, row: Row) -> float:
    """How many judgements the updates so far are from."""
    return row["step"] * arm.batch / arm.epochs


def shown(rows: Sequence[Row], measure: str) -> str:
    """A measure's mean over seeds with its interval, or in how many of them something was found."""
    if sought := SOUGHT.get(measure):
        return f"{sum(row[sought] > FOUND for row in rows)} of {len(rows)}"
    if len(rows) < 2:
        return NOT_YET
    return interval([row[measure] for row in rows], share=measure in SHARES).text()
