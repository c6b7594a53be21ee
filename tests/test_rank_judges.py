"""Judges as ranks ask them: who is asked where, and what they are told of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import define

from prefloop import BaseJudge, Pair, UserError, Verdict, component
from prefloop.ranks.group import Ranks
from prefloop.ranks.judging import judge_together, sits_on_first
from prefloop.settings import JudgedOn


@define
class Keeping(BaseJudge):
    """Keeps something in the folder of the run."""

    folder: Path | None = None

    def attach(self, folder: Path) -> None:
        self.folder = folder

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict.tie() for _ in pairs]


@pytest.mark.parametrize("on", ["auto", "every"])
def test_a_judge_hears_where_the_run_is(on: JudgedOn, tmp_path: Path) -> None:
    judge = Keeping()
    judge_together(Ranks(rank=0, size=2), judge, on).attach(tmp_path)
    assert judge.folder == tmp_path


def test_a_person_cannot_be_asked_by_every_rank() -> None:
    person = component("judge", "human")()
    assert sits_on_first(person) and sits_on_first(person, "first")
    with pytest.raises(UserError, match=r"judging\.ranks: every rank would ask a person"):
        sits_on_first(person, "every")


def test_what_is_made_of_others_is_asked_on_one_rank_unless_told_otherwise() -> None:
    rule = component("judge", "rule")
    committee = component("judge", "committee")(members=(rule(length="longer"), rule(prefer=["Sure"])))
    assert not sits_on_first(rule(length="longer"))
    assert sits_on_first(committee) and not sits_on_first(committee, "every")
