"""Labels of earlier runs and of files of pairs, to begin from."""

from __future__ import annotations

from collections.abc import Iterator

from prefloop import Pair, RunView, UserError, open_run
from prefloop.types import PERSON
from prefloop_plugins.judging.pair_files import LabelledPair, read_pairs, run_of

Label = tuple[Pair, float]
"""A pair, and the probability that its first answer is the better one."""


def read_labels(path: str) -> list[Label]:
    """The labels in a run, or in a file of pairs as `prefloop judge` reads it; ties among them.

    Of a run those that a person gave, or, where its judge asked nobody, all. Pairs of an evaluation are held
    out and left there. Raises `UserError` where there is none, and where `path` cannot be read.
    """
    run = run_of(path)
    found = list(_of_run(open_run(run)) if run else _of_pairs(read_pairs(path)))
    if not found:
        raise UserError(f"'{path}' holds no label to learn from: no pair in it has a better answer or a tie.")
    return found


def _of_pairs(found: list[LabelledPair]) -> Iterator[Label]:
    for one in found:
        if one.label is not None:
            sure = {"first": one.probability, "second": 1 - one.probability, "tie": 0.5}
            yield one.pair, sure[one.label]


def _of_run(run: RunView) -> Iterator[Label]:
    found = {j.key: j for j in run.judgements().records if not j.evaluation}  # the last about a pair counts
    if damage := run.problems:
        raise UserError(f"run '{run.path}': {damage[0]}")
    asked = run.asks_a_person or any(j.verdict.by == PERSON for j in found.values())
    for judgement in found.values():
        verdict = judgement.verdict
        # Where a person judges alone nobody else could have given it, and it does not say who did.
        if verdict.status in ("ok", "tie") and (not asked or verdict.by in (None, PERSON)):
            yield judgement.pair, verdict.probability
