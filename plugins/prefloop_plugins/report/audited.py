"""A person's labels and what their audit found, in sentences and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefloop_plugins.judging.audit import Audit, audit_of
from prefloop_plugins.rates import NOTHING, interval

if TYPE_CHECKING:
    from collections.abc import Iterator

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
