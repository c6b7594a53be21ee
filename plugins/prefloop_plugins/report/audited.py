"""A person's labels and what their audit found, in sentences and as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prefloop.evaluation.stats import wilson
from prefloop_plugins.judging.audit import Audit, audit_of
from prefloop_plugins.rates import NOTHING, interval
from prefloop_plugins.report.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefloop.types import Rate
    from prefloop_plugins.report.records import RunFiles

Row = tuple[str, ...]


def audit_in(run: RunFiles) -> Audit | None:
    """The audit of a run whose judge asks a person among others, with a budget or an audit; else None."""
    given = {name: run.settings.get(f"judge.{name}") for name in ("budget", "budget_per_step", "audit")}
    if not any(value and float(value) for value in given.values()):
        return None
    return audit_of(run.judged, int(given["budget"]) if given["budget"] else None)


def sentences(run: RunFiles) -> Iterator[str]:
    """What the person's time was spent on, and what it says of the judge before them."""
    found = audit_in(run)
    if found is None:
        return
    budget = run.settings.get("judge.budget")
    of = f" of {int(budget):,}" if budget else ""
    spent = f"; the budget was spent in step {found.spent:,}" if found.spent is not None else ""
    audits = f", {found.audited:,} of them drawn to audit the judge before" if found.audited else ""
    yield f"A person was asked about {found.asked:,}{of} pairs{audits}{spent}."
    if found.right is None or found.wrong is None:
        return
    yield (
        f"Of the labels that they would not have seen they confirm {interval(found.right)}, and of the "
        f"{found.wrong.pairs:,} labels that were used they would reverse {interval(found.wrong)}, by "
        f"{found.right.pairs:,} audits that decided (95 % intervals)."
    )
    if found.later:
        yield f"{found.later:,} labels came after the budget was spent: no audit covers them."


def table(run: RunFiles) -> tuple[Row, list[Row]]:
    """The head and the rows of the table of a run; no rows where no person had a budget."""
    found = audit_in(run)
    head = ("a person's labels", "")
    if found is None:
        return head, []
    right, wrong = (interval(rate) if rate else NOTHING for rate in (found.right, found.wrong))
    return head, [
        ("pairs asked about", f"{found.asked:,}"),
        ("of these audits", f"{found.audited:,}"),
        ("budget spent in step", f"{found.spent:,}" if found.spent is not None else NOTHING),
        ("judge's labels that the person confirms", right),
        ("labels used that the person would reverse", wrong),
        ("labels after the audit", f"{found.later:,}"),
    ]


def person_and_judge(run: RunFiles) -> Finding | None:
    """Whether the person agrees less with the judge in the second half of the audit; None without one.

    Then what is learnt is the judge, and no longer what the person wants of it.
    """
    audits = [j.verdict for j in run.judged if j.verdict.audit is not None and j.verdict.status == "ok"]
    agreed = [not verdict.reverses for verdict in audits]
    half = len(agreed) // 2
    if not half:
        return None
    first, second = (wilson(sum(part), len(part)) for part in (agreed[:half], agreed[half:]))
    said = (
        f"Of the labels in the first half of the audit the person confirmed {interval(first)} of "
        f"{first.pairs}, in the second {interval(second)} of {second.pairs}."
    )
    if at_most(first, second) >= 0:
        return Finding("fine", "The person did not turn away from the judge", said)
    return Finding(
        "warning",
        "The person turned away from the judge",
        f"{said} What is learnt is the judge, and less and less what the person wants.",
    )


def at_most(first: Rate, second: Rate) -> float:
    """The upper end of the 95 % interval of ``second - first``: Newcombe's, from Wilson intervals.

    Interval Estimation for the Difference Between Independent Proportions, 1998, method 10.
    """
    return second.rate - first.rate + math.hypot(second.high - second.rate, first.rate - first.low)
