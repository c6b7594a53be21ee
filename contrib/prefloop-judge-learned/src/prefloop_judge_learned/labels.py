"""Labels of earlier runs and of files of pairs, to begin from."""

from __future__ import annotations

from collections.abc import Iterator

from prefloop import Pair, UserError, open_run
from prefloop.embedded import local_path
from prefloop.types import PERSON
from prefloop_plugins.judging.pair_files import LabelledPair, ledger_of, read_pairs

Label = tuple[Pair, float]
"""A pair, and the probability that its first answer is the better one."""


def read_labels(path: str) -> list[Label]:
    """The labels in a run, or in a file of pairs as `prefloop judge` reads it; ties among them.

    Of a run those that a person gave, or, where its judge asked nobody, all. Pairs of an evaluation are held
    out and left there. Raises `UserError` where there is none, and where `path` cannot be read.
    """
    folder = local_path(path)
    found = list(_of_run(path) if folder.is_dir() and ledger_of(folder) else _of_pairs(read_pairs(path)))
    if not found:
        raise UserError(f"'{path}' holds no label to learn from: no pair in it has a better answer or a tie.")
    return found


def _of_pairs(found: list[LabelledPair]) -> Iterator[Label]:
    for one in found:
        if one.label is not None:
            sure = {"first": one.probability, "second": 1 - one.probability, "tie": 0.5}
            yield one.pair, sure[one.label]


def _of_run(path: str) -> Iterator[Label]:
    run = open_run(local_path(path))
    found = {j.key: j for j in run.judgements().records if not j.evaluation}
    if damage := run.problems:
        raise UserError(f"run '{path}': {damage[0]}")
    given = (None, PERSON) if run.asks_a_person else None
    for judgement in found.values():  # of several lines about one pair the last
        verdict = judgement.verdict
        if verdict.status in ("ok", "tie") and (given is None or verdict.by in given):
            yield judgement.pair, verdict.probability
