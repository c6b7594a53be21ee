"""Tournaments that find the best and the worst of some entrants by comparing two at a time.

A tournament is a generator: it yields rounds, lists of matches that do not depend on each other, is sent the
results of each, and returns the places of the best and the worst entrant. So the rounds of many
tournaments can be judged together, and who judges is none of its business.

Entrants are numbers from 0. A match ``(i, j)`` shows entrant ``i`` first, and its result is the
probability that ``i`` is the better one, one half for a tie, or None where the judge could not say. Two
entrants do not meet: they are what is looked for, whichever is the better.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from statistics import fmean, pstdev

Match = tuple[int, int]
Result = float | None
Tournament = Generator[list[Match], list[Result], tuple[int, int]]
Loser = Callable[[Sequence[float], int], int]

FEW = 5
"""Among so many of the entrants the worst is looked for, where it is not to be as bad as all there are."""


def lowest(scores: Sequence[float], best: int) -> int:
    """The place of the lowest score but the best's; of equals the last."""
    return min(_others(scores, best), key=lambda i: scores[i])


def lowest_of_few(scores: Sequence[float], best: int) -> int:
    """The same among the first `FEW`."""
    return lowest(scores[:FEW], best)


def two_deviations_below(scores: Sequence[float], best: int) -> int:
    """The place of the score nearest to their mean less two standard deviations, but the best's.

    Of equals it is the last. Up to five scores all lie above that, as none of n lies further below the mean
    than ``sqrt(n - 1)`` deviations (Samuelson 1968): then it is the lowest.
    """
    aim = fmean(scores) - 2 * pstdev(scores)
    return min(_others(scores, best), key=lambda i: abs(scores[i] - aim))


def _others(scores: Sequence[float], best: int) -> list[int]:
    """All places but the best's, the last first."""
    return [i for i in reversed(range(len(scores))) if i != best]


def round_robin(entrants: int, loser: Loser = lowest) -> Tournament:
    """Everyone meets everyone, in one round: ``n (n - 1) / 2`` matches.

    The score of an entrant is the mean probability that it wins. The best has the highest one, and `loser`
    says which is the worst. Matches without a result do not count, and who has none stands at one half. Of
    equals the first is the best.
    """
    if entrants == 2:
        return 0, 1
    # Shown first in turn, so that a judge's liking for one place favours nobody.
    matches = [(i, j) if (i + j) % 2 else (j, i) for i in range(entrants) for j in range(i + 1, entrants)]
    results = yield matches
    won: list[list[float]] = [[] for _ in range(entrants)]
    for (i, j), result in zip(matches, results, strict=True):
        if result is not None:
            won[i].append(result)
            won[j].append(1.0 - result)
    scores = [fmean(w) if w else 0.5 for w in won]
    best = max(range(entrants), key=lambda i: scores[i])
    return best, loser(scores, best)


def elimination(entrants: int, among: int | None = None) -> Tournament:
    """Winners meet winners for the best, losers losers for the worst: at most ``ceil(3 n / 2) - 2`` matches.

    In the first round all meet in pairs; who lost it cannot be the best, who won it not the worst. An odd
    one out plays on for the best and, where that fails, for the worst. A match that is even or has no
    result goes to the one shown first, so entrants should be in random order. Right where the judge is
    consistent; one that contradicts itself may put out the best early.

    With `among` the worst is looked for among the first so many only: of five, in ``n + 1`` matches at most.
    """
    if entrants == 2:
        return 0, 1
    places = list(range(entrants))
    matches = list(zip(places[::2], places[1::2], strict=False))
    results = yield matches
    winners = _advancing(matches, results)
    best = yield from _knockout([*winners, *places[2 * len(matches) :]], _advancing)
    few = places[:among]
    better = {winner for match, winner in zip(matches, winners, strict=True) if {*match} <= {*few}}
    worst = yield from _knockout([i for i in few if i not in better and i != best], _falling)
    return best, worst


def play_together(
    tournaments: Sequence[Tournament], judge: Callable[[Sequence[tuple[int, Match]]], Sequence[Result]]
) -> list[tuple[int, int]]:
    """The best and the worst of each tournament, where one call of `judge` judges a round of all of them.

    It is given matches, each with the place of its tournament, and gives their results in that order.
    """
    ends: dict[int, tuple[int, int]] = {}
    results: dict[int, list[Result] | None] = dict.fromkeys(range(len(tournaments)))
    while results:
        rounds: dict[int, list[Match]] = {}
        for at, last in results.items():
            try:
                rounds[at] = _go_on(tournaments[at], last)
            except StopIteration as finished:
                ends[at] = finished.value
        matches = [(at, match) for at, of_round in rounds.items() for match in of_round]
        told = iter(judge(matches) if matches else ())
        results = {at: [next(told) for _ in of_round] for at, of_round in rounds.items()}
    return [ends[at] for at in range(len(tournaments))]


def _go_on(tournament: Tournament, results: list[Result] | None) -> list[Match]:
    """The next round, after the `results` of the last, or the first round. Raises `StopIteration`."""
    return next(tournament) if results is None else tournament.send(results)


def _advancing(matches: Sequence[Match], results: Sequence[Result]) -> list[int]:
    """Who won each match."""
    return [j if p is not None and p < 0.5 else i for (i, j), p in zip(matches, results, strict=True)]


def _falling(matches: Sequence[Match], results: Sequence[Result]) -> list[int]:
    """Who lost each match."""
    winners = _advancing(matches, results)
    return [j if winner == i else i for (i, j), winner in zip(matches, winners, strict=True)]


def _knockout(
    left: list[int], going_on: Callable[[Sequence[Match], Sequence[Result]], list[int]]
) -> Generator[list[Match], list[Result], int]:
    """Rounds in pairs until one is left; an odd one out comes first in the next round."""
    while len(left) > 1:
        matches = list(zip(left[::2], left[1::2], strict=False))
        odd = left[2 * len(matches) :]
        results = yield matches
        left = [*odd, *going_on(matches, results)]
    return left[0]
