"""Tournaments by enumeration: the right ends, the promised number of matches, and judges that contradict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, permutations, product
from math import ceil
from random import Random

import pytest

from prefloop_sampler_best_of_n.tournament import (
    Match,
    Result,
    Tournament,
    elimination,
    lowest,
    lowest_of_few,
    play_together,
    round_robin,
    two_deviations_below,
)

MOST: list[tuple[Callable[[int], Tournament], Callable[[int], int]]] = [
    (elimination, lambda n: ceil(3 * n / 2) - 2),
    (round_robin, lambda n: n * (n - 1) // 2),
]


class Ranks:
    """Prefers the larger value, and counts."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = values
        self.matches: list[Match] = []
        self.calls = 0

    def __call__(self, matches: Sequence[tuple[int, Match]]) -> list[Result]:
        self.calls += 1
        self.matches += [match for _, match in matches]
        return [self.result(*match) for _, match in matches]

    def result(self, i: int, j: int) -> Result:
        a, b = self.values[i], self.values[j]
        return 0.5 if a == b else 0.9 if a > b else 0.1


@pytest.mark.parametrize(("tournament", "most"), MOST, ids=["elimination", "round-robin"])
@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_a_consistent_judge_gets_its_best_and_worst(
    tournament: Callable[[int], Tournament], most: Callable[[int], int], n: int
) -> None:
    for values in permutations(range(n)):
        judge = Ranks(values)
        [(best, worst)] = play_together([tournament(n)], judge)
        assert (values[best], values[worst]) == (n - 1, 0)
        assert len(judge.matches) <= most(n)
        assert len({frozenset(match) for match in judge.matches}) == len(judge.matches)  # nobody meets twice


@pytest.mark.parametrize(
    "tournament", [partial(elimination, among=5), partial(round_robin, loser=lowest_of_few)]
)
@pytest.mark.parametrize("n", [3, 5, 6, 7])
def test_the_worst_of_the_first_five(tournament: Callable[[int], Tournament], n: int) -> None:
    for values in permutations(range(n)):
        judge = Ranks(values)
        [(best, worst)] = play_together([tournament(n)], judge)
        assert (values[best], values[worst]) == (n - 1, min(values[:5]))
        if len(judge.matches) < n * (n - 1) // 2:
            assert len(judge.matches) <= n + 1


@pytest.mark.parametrize("tournament", [elimination, round_robin])
def test_best_and_worst_differ_whatever_the_judge_says(tournament: Callable[[int], Tournament]) -> None:
    random, answers = Random(0), (0.0, 0.2, 0.5, 1.0, None)
    for _ in range(2000):
        n = random.randint(2, 9)
        [(best, worst)] = play_together([tournament(n)], lambda m: random.choices(answers, k=len(m)))
        assert best != worst
        assert {best, worst} <= set(range(n))


def test_the_odd_one_out_that_beats_the_winner_is_not_the_worst_too() -> None:
    """A judge in a circle: 0 beats 1, 1 beats 2, 2 beats 0."""
    beats = {(0, 1), (1, 2), (2, 0)}
    [(best, worst)] = play_together([elimination(3)], lambda m: [float(match in beats) for _, match in m])
    assert (best, worst) == (2, 1)


def test_of_two_nobody_is_asked() -> None:
    judge = Ranks([1, 2])
    assert play_together([elimination(2), round_robin(2)], judge) == [(0, 1), (0, 1)]
    assert judge.calls == 0
    assert play_together([], judge) == []


def test_many_tournaments_share_their_rounds() -> None:
    judge = Ranks([3, 1, 4, 1.5, 5, 9, 2, 6])
    ends = play_together([elimination(8), elimination(2), elimination(4), elimination(8)], judge)
    assert ends == [(5, 1), (0, 1), (2, 1), (5, 1)]
    assert judge.calls == 5  # of 8: one round in pairs, two to the best and two to the worst


def test_everyone_is_shown_first_about_half_of_the_time() -> None:
    for n in range(3, 9):
        matches = next(round_robin(n))
        firsts = [sum(i == entrant for i, _ in matches) for entrant in range(n)]
        assert max(firsts) - min(firsts) <= 1


def test_a_round_robin_goes_by_the_mean_of_what_was_decided() -> None:
    results = {frozenset((0, 1)): (0, 0.9), frozenset((0, 2)): None, frozenset((1, 2)): (1, 0.6)}

    def judge(matches: Sequence[tuple[int, Match]]) -> list[Result]:
        told = [(i, results[frozenset((i, j))]) for _, (i, j) in matches]
        return [r and (r[1] if r[0] == i else 1 - r[1]) for i, r in told]

    # means: 0.9; (0.1 + 0.6) / 2 = 0.35; 0.4
    assert play_together([round_robin(3)], judge) == [(0, 1)]


def test_two_deviations_below_the_mean_by_hand() -> None:
    """The mean is 4.425 and the deviation 2.187, so that the aim is 0.051: 3.5 is nearer to it than -5."""
    scores = [5.0] * 18 + [3.5, -5.0]
    assert two_deviations_below(scores, best=0) == 18
    assert lowest(scores, best=0) == 19
    assert two_deviations_below([4.0, 3.0, 2.0, 1.0, 2.0, 3.0], best=0) == 3
    assert two_deviations_below([1.0] * 3, best=0) == lowest([1.0] * 3, best=0) == 2


@pytest.mark.parametrize("n", [3, 4, 5])
def test_up_to_five_scores_the_lowest_is_the_nearest(n: int) -> None:
    random = Random(n)
    for _ in range(2000):
        scores = [random.choice((0.0, random.random(), 1.0)) for _ in range(n)]
        best = max(range(n), key=lambda i: scores[i])
        assert scores[two_deviations_below(scores, best)] == scores[lowest(scores, best)]


def win_rates(sizes: Sequence[int]) -> list[float]:
    """The scores of a consistent judge's round-robin, for groups of equals of these sizes, worst first."""
    scores, beaten = [], 0
    for size in sizes:
        scores += [(beaten + (size - 1) / 2) / (sum(sizes) - 1)] * size
        beaten += size
    return scores


@pytest.mark.parametrize("n", range(3, 12))
def test_of_up_to_ten_win_rates_that_do_not_contradict_each_other_too(n: int) -> None:
    """For every order of n entrants, equals among them: the places where a group ends are any of n - 1."""
    others = []
    for ends in product((False, True), repeat=n - 1):
        places = [0, *(i for i, end in enumerate(ends, 1) if end), n]
        scores = win_rates([b - a for a, b in pairwise(places)])
        if scores[two_deviations_below(scores, n - 1)] != scores[lowest(scores, n - 1)]:
            others.append(scores)
    assert len(others) == (n > 10)
    assert n <= 10 or others == [[0.0, 0.1, *[0.6] * 9]]
