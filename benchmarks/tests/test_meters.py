"""The measurement of the meters: its answers, and the table that it writes."""

from __future__ import annotations

import random

from benchmarks.meters import JUDGES, REMARKS, SECOND, SEEDS, answer, table

from prefloop_plugins.style import hedges, markdown, words


def test_answers_vary_in_style_and_their_remarks_have_no_part_in_it() -> None:
    rng = random.Random(0)
    answers = [answer(rng, "A cow says moo.") for _ in range(400)]
    for count in (hedges, markdown, words):
        assert len({count(text) for text in answers}) > 1
    assert len({len(remark) for remark in REMARKS}) == 1
    assert {words(remark) for remark in REMARKS} == {4}
    assert all("cow says moo" in text for text in answers)


def test_every_judge_has_a_second_one_and_seeds() -> None:
    assert JUDGES.keys() == SECOND.keys() == SEEDS.keys()


def test_the_table_counts_the_runs_that_warned() -> None:
    warned = {"style": True, "over-optimisation": False, "length": False}
    runs = [
        {
            "judge": "content",
            "seed": i,
            "rates": [0.75, 0.5],
            "warned": warned | {"style": i == 0},
            "risen": [],
        }
        for i in range(4)
    ]
    assert table(runs).splitlines()[2] == (
        "| content | 4 | 0.75, by the second 0.50 | 1 (5% to 70%) | 0 (0% to 49%) | 0 (0% to 49%) |"
    )
