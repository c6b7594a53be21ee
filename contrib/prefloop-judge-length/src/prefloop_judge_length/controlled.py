"""The `length-controlled` judge: another judge's verdicts, with what it gives for length taken off."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from operator import itemgetter
from typing import Any

from attrs import define, evolve, field
from attrs.validators import and_, gt, lt, optional

from prefloop import BaseJudge, Judge, Pair, StopRun, Verdict, adapt
from prefloop.components import PendingVerdicts, check_verdicts
from prefloop.errors import said_of
from prefloop_judge_length.fit import Fit, Observation, fit, logistic
from prefloop_judge_length.lengths import UNIT_HELP, Unit, difference, is_unit

Answer = tuple[int, Verdict]
"""A place among the pairs that were asked about, and the verdict on it."""
Worth = Callable[[float], float]
"""From how much longer an answer is to the log-odds that this is worth to the judge."""

WINDOW = 4096
"""The latest verdicts, which a fit goes by: a policy's lengths change as it learns."""


@define
class LengthControlled(BaseJudge):
    """``log-odds' = log-odds - f(a - b)`` for answers of lengths ``a`` and ``b``.

    ``f`` is the log-odds that the inner judge gives an answer for being longer, whatever it says:

    - with `coefficient`, ``f(n) = coefficient * n``;
    - without, ``f(n) = weight * tanh(n / spread)``, fitted to the inner judge's own verdicts before the
      batch at hand (`prefloop_judge_length.fit`). Until `min_pairs` are known, verdicts pass as they are.

    This is the length term of length-controlled AlpacaEval (Dubois et al., arXiv 2404.04475), whose other
    terms, for two different models and for how hard a prompt is for them, vanish where one policy gave both
    answers. As there, whatever goes with length counts as length, the better content of longer answers too.

    Only labels are adjusted, and both of their orders where the inner judge was asked in both. Ties,
    abstentions and errors pass untouched. A probability of 0 or 1 has no log-odds to adjust, and so counts
    as ``1 - certainty`` or `certainty`.
    """

    inner: Judge = field(metadata={"help": "The judge to correct, written as under judge."})
    unit: Unit = field(default="characters", validator=is_unit, metadata={"help": UNIT_HELP})
    coefficient: float | None = field(
        default=None,
        validator=optional(and_(gt(-math.inf), lt(math.inf))),
        metadata={
            "help": "Log-odds taken off per unit of extra length; null fits it to the verdicts so far."
        },
    )
    min_pairs: int = field(
        default=64, validator=gt(0), metadata={"help": "Verdicts that a fit takes, at least."}
    )
    ridge: float = field(
        default=1.0,
        validator=[gt(0.0), lt(math.inf)],
        metadata={"help": "How strongly a fit is held to no effect of length; larger holds it closer."},
    )
    certainty: float = field(
        default=0.99,
        validator=[gt(0.5), lt(1.0)],
        metadata={"help": "A label surer than this counts as this sure when it is adjusted."},
    )
    _observations: deque[Observation] = field(
        factory=lambda: deque(maxlen=WINDOW), init=False, eq=False, repr=False
    )

    @property
    def interactive(self) -> bool:
        return adapt(self.inner, BaseJudge).interactive

    @property
    def symmetric(self) -> bool:
        return adapt(self.inner, BaseJudge).symmetric

    @property
    def fitted(self) -> Fit | None:
        """What is fitted to the verdicts so far; None while there are fewer than `min_pairs`."""
        if len(self._observations) < self.min_pairs:
            return None
        return fit(self._observations, ridge=self.ridge)

    def prepare(self) -> None:
        """Prepare the inner judge. Raises `UserError` where it does."""
        with said_of("inner"):
            adapt(self.inner, BaseJudge).prepare()

    def close(self) -> None:
        adapt(self.inner, BaseJudge).close()

    def depends_on(self) -> Sequence[str]:
        """What the inner judge depends on."""
        return adapt(self.inner, BaseJudge).depends_on()

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair. Raises `StopRun` and `UserError` as the inner judge does."""
        return [verdict for _, verdict in sorted(dict(self.answers(pairs)).items(), key=itemgetter(0))]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """Each verdict with its place as the inner judge tells it. The last for a place counts."""
        worth = self._worth()
        told: dict[int, Verdict] = {}
        try:
            for place, verdict in self._told(pairs):
                told[place] = verdict
                yield place, self._adjusted(pairs[place], verdict, worth)
        except StopRun as stop:
            raise self._stopped(stop, pairs, told, worth) from stop
        finally:
            self._observe(pairs, told)

    @property
    def submit(self) -> Callable[[Sequence[Pair]], PendingVerdicts] | None:  # type: ignore[override]
        """A method where the inner judge answers elsewhere, None where it does not."""
        ask = adapt(self.inner, BaseJudge).submit
        if ask is None:
            return None

        def submit(pairs: Sequence[Pair]) -> PendingVerdicts:
            pending = ask(pairs)
            return PendingVerdicts(lambda: self._collected(pairs, pending))

        return submit

    def _collected(self, pairs: Sequence[Pair], pending: Any) -> list[Verdict]:
        worth = self._worth()
        try:
            verdicts = self._counted(pairs, pending.result())
        except StopRun as stop:
            told = dict(enumerate(stop.verdicts))
            self._observe(pairs, told)
            raise self._stopped(stop, pairs, told, worth) from stop
        self._observe(pairs, dict(enumerate(verdicts)))
        return [self._adjusted(*both, worth) for both in zip(pairs, verdicts, strict=True)]

    def _told(self, pairs: Sequence[Pair]) -> Iterator[Answer]:
        """The inner judge's verdicts, one by one where it can tell them so."""
        if not pairs:
            return
        inner = adapt(self.inner, BaseJudge)
        if inner.answers is not None:
            yield from inner.answers(pairs)
            return
        try:
            verdicts = self.inner.judge(pairs)
        except StopRun as stop:
            yield from enumerate(stop.verdicts)
            raise
        yield from enumerate(self._counted(pairs, verdicts))

    def _counted(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        with said_of("inner"):
            check_verdicts(type(self.inner).__name__, verdicts, len(pairs))
        return verdicts

    def _worth(self) -> Worth | None:
        """``f``, or None while nothing is known of it."""
        coefficient = self.coefficient
        if coefficient is not None:
            return lambda extra: coefficient * extra
        fitted = self.fitted
        return fitted.log_odds if fitted else None

    def _observe(self, pairs: Sequence[Pair], told: Mapping[int, Verdict]) -> None:
        """Remember the labels, for the fits to come."""
        if self.coefficient is None:
            labels = (both for both in sorted(told.items()) if both[1].status == "ok")
            self._observations.extend((difference(pairs[at], self.unit), v.probability) for at, v in labels)

    def _adjusted(self, pair: Pair, verdict: Verdict, worth: Worth | None) -> Verdict:
        extra = difference(pair, self.unit)
        if worth is None or extra == 0 or verdict.status != "ok":
            return verdict
        shift = worth(extra)
        orders = verdict.orders and (
            self._less(verdict.orders[0], shift),
            self._less(verdict.orders[1], shift),
        )
        return evolve(verdict, probability=self._less(verdict.probability, shift), orders=orders)

    def _less(self, probability: float, log_odds: float) -> float:
        """`probability` with `log_odds` taken off."""
        p = min(max(probability, 1 - self.certainty), self.certainty)
        return logistic(math.log(p / (1 - p)) - log_odds)

    def _stopped(
        self, stop: StopRun, pairs: Sequence[Pair], told: Mapping[int, Verdict], worth: Worth | None
    ) -> StopRun:
        """`stop` with adjusted verdicts on the first pairs, up to the first that has none."""
        first = takewhile(told.__contains__, count())
        given = [self._adjusted(pairs[place], told[place], worth) for place in first]
        return StopRun(stop.reason, given, failed=stop.failed)
