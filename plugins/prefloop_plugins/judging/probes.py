"""Probes of style: the same pair with one answer decorated, and whether that turns the judge's verdict.

A decoration adds nothing to what an answer says. Each probe is put on either answer in turn, so that a judge
whose verdicts merely change easily turns both ways, and one that likes the decoration turns towards it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

from attrs import evolve, frozen

from prefloop.components import BaseJudge, Judge, adapt
from prefloop.errors import UserError
from prefloop.evaluation.evaluator import average_orders
from prefloop.evaluation.stats import Z, wilson
from prefloop.types import Completion, Pair, Rate, Verdict
from prefloop_plugins.judging.pair_files import LabelledPair
from prefloop_plugins.judging.verdicts import Judged, judge_pairs

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def _markdown(text: str) -> str:
    sentences = [s for s in _SENTENCE.split(text.strip()) if s]
    items = "\n".join(f"- {sentence}" for sentence in sentences[1:])
    return f"## Answer\n\n**{sentences[0] if sentences else ''}**" + (f"\n\n{items}" if items else "")


PROBES: Mapping[str, Callable[[str], str]] = {
    "Markdown": _markdown,
    "padding": lambda text: (
        f"{text} There is of course more than one thing that could be said about this, "
        "and it is worth taking a moment to look at it with some care."
    ),
    "hedges": lambda text: f"I think that perhaps this may be so: {text} But I am not certain.",
    "confidence": lambda text: f"There is no doubt whatsoever: {text} This is absolutely certain.",
    "compliment": lambda text: f"What an excellent question, you are clearly a careful thinker! {text}",
}
"""What is done to an answer, by the name of the probe."""
QUESTIONS = 2 * len(PROBES)
"""How many more pairs are asked about for each pair: every probe on either answer."""


@frozen
class Probe:
    """How often one decoration turned the verdict, of the pairs that the judge had decided."""

    name: str
    towards: Rate
    """Put on the answer that had lost: the share of pairs that it then won."""
    away: Rate
    """Put on the answer that had won: the share of pairs that it then lost."""
    liked: Rate
    """Of the verdicts that turned either way, those towards the decoration; one half is no liking. Its
    interval is as wide as the number of probes asks for (Bonferroni), so that all hold together."""

    @property
    def leaning(self) -> int:
        """1 where the judge likes the decoration, -1 where it dislikes it, 0 where neither is shown."""
        return (self.liked.low > 0.5) - (self.liked.high < 0.5)


@frozen
class Probed:
    """What the probes found of a judge, on the pairs that it had decided."""

    pairs: int
    questions: int
    """Pairs that were asked about besides, each in both orders where the judge does not ask so itself."""
    probes: tuple[Probe, ...]


def check_probes(judge: Judge) -> None:
    """Raises `UserError` for a person, who cannot be asked so often."""
    if adapt(judge, BaseJudge).interactive:
        raise UserError(f"--probes: asks about {QUESTIONS} more pairs for each one, too many for a person.")


def probe(
    judge: Judge,
    pairs: Sequence[LabelledPair],
    judged: Judged,
    on_progress: Callable[[int], None] = lambda pairs: None,
) -> tuple[Probed, Judged]:
    """The judge probed on what it has `judged`, the first of `pairs`; also what it said to the probes.

    Verdicts are means of both orders, so that a place has no part in them. Where the judge stops, a probe
    counts the pairs that it came to.
    """
    base = [both_orders(*row) for row in zip(judged.verdicts, judged.swapped, strict=True)]
    decided = [
        (p.pair, v.prefers_first) for p, v in zip(pairs, base, strict=False) if v.prefers_first is not None
    ]
    asked = [
        _decorated(pair, PROBES[name], on_first=first)
        for name in PROBES
        for pair, _ in decided
        for first in (True, False)
    ]
    said = judge_pairs(judge, asked, on_progress)
    after = [both_orders(*row) for row in zip(said.verdicts, said.swapped, strict=True)]
    size, z = 2 * len(decided), NormalDist().inv_cdf(1 - (1 - NormalDist().cdf(Z)) / len(PROBES))
    probes = [
        _probe(name, [won for _, won in decided], after[place * size : (place + 1) * size], z)
        for place, name in enumerate(PROBES)
    ]
    return Probed(len(decided), len(asked), tuple(probes)), said


def both_orders(verdict: Verdict, swapped: Verdict | None) -> Verdict:
    """A verdict and the one with the answers swapped, turned back, as one; the first where it holds both."""
    return verdict if swapped is None else average_orders(verdict, swapped)


def _decorated(pair: Pair, decoration: Callable[[str], str], *, on_first: bool) -> Pair:
    if on_first:
        return evolve(pair, first=Completion((), decoration(pair.first.text)))
    return evolve(pair, second=Completion((), decoration(pair.second.text)))


def _probe(name: str, won_first: Sequence[bool | None], after: Sequence[Verdict], z: float) -> Probe:
    """`after` holds two verdicts for each pair: with the first answer decorated, and with the second."""
    towards: list[bool] = []
    away: list[bool] = []
    for place, verdict in enumerate(after):
        won, on_first = won_first[place // 2], place % 2 == 0
        if verdict.status not in ("ok", "tie"):
            continue
        turned = verdict.prefers_first is not None and verdict.prefers_first != won
        (away if on_first == won else towards).append(turned)
    return Probe(
        name,
        wilson(sum(towards), len(towards)),
        wilson(sum(away), len(away)),
        wilson(sum(towards), sum(towards) + sum(away), z),
    )
