"""Compares the policy with another model on held-out prompts, by a judge that may not go by place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev

from attrs import Factory, define, evolve, frozen

from prefloop.components import BaseJudge, BaseSampler, Judge, Sampler, adapt
from prefloop.errors import StopRun
from prefloop.evaluation import stats
from prefloop.model.policy import Policy
from prefloop.ranks.group import ALONE, Ranks
from prefloop.ranks.sharing import complete_together
from prefloop.routing import RoutingJudge
from prefloop.sampling import Generator
from prefloop.sampling.pool import Told, ignore
from prefloop.scoring.scorer import lay_out
from prefloop.types import Completion, Evaluation, Opinion, Pair, Prompt, Sampling, Verdict

# Apart from every step's seed, so that evaluating does not repeat what training drew.
_SEED = 2**62


JUDGED_AT_ONCE = 32
"""Pairs that a judge is asked about together. An evaluation can be stopped between them."""

Tell = Callable[[str, int, int], object]
"""Hears of a phase of an evaluation how much is done, and of how much. What it raises ends the evaluation."""


def _say_nothing(phase: str, done: int, total: int) -> None:
    pass


@define
class _Count:
    """Adds up what is done of a phase. Rows that had to be sampled again in another way count once."""

    tell: Tell
    phase: str
    total: int
    done: int = 0

    def add(self, count: int) -> None:
        self.done = min(self.done + count, self.total)
        self.tell(self.phase, self.done, self.total)


@frozen(eq=False)
class Opponent:
    """Whom the policy is compared with. `prompts` are the same ones as its own tokenizer encodes them."""

    label: str
    generator: Generator
    prompts: Sequence[Prompt]


@frozen(eq=False)
class Evaluator:
    """Compares the live policy with `opponent`, by default with the start of the run.

    `answer` names the column whose text a right completion contains; its share becomes ``accuracy``.
    `judge_name` is the judge's qualified name, and `batch_size` that of scoring. `others` are judges by name
    that are asked about the same pairs; `teacher` is whichever of all these names taught. `tell` hears how
    far it is: what `Observer.evaluating` does. Judges read thoughts where it `show_thoughts`. Each of `ranks`
    samples its share.
    """

    policy: Policy
    prompts: Sequence[Prompt]
    judge: Judge
    sampling: Sampling
    answer: str | None = None
    seed: int = 0
    judge_name: str = ""
    opponent: Opponent | None = None
    batch_size: int = 8
    tell: Tell = _say_nothing
    others: Mapping[str, Judge] = Factory(dict)
    teacher: str = ""
    show_thoughts: bool = False
    ranks: Ranks = ALONE

    def __attrs_post_init__(self) -> None:
        """Raises `UserError` where one of both sides cannot read the prompts."""
        self.policy.check_reading(self.prompts, self.sampling)
        if self.opponent is not None:
            self.opponent.generator.check(self.opponent.prompts, self.sampling)

    def __call__(self, step: int) -> Evaluation:
        """One completion from each side for every prompt, judged and measured."""
        pairs = self.sample()
        verdicts = self.ask(pairs)
        given = {name: self.ask(pairs, judge) for name, judge in self.others.items()}
        others = [Opinion(name, stats.win_rate(said), said) for name, said in given.items()]
        return evolve(self.measure(step, pairs, verdicts), others=others, teacher=self.teacher)

    def sample(self) -> list[Pair]:
        """The policy's completion of each prompt, and the other side's; the same ones for the same seed."""
        other, seed = self._against(), _SEED + 2 * self.seed
        share = len(self.ranks.share(len(self.prompts)))
        told = _Count(self.tell, "sampled", 2 * share).add

        def complete(prompts: Sequence[Prompt], first: int) -> list[Completion]:
            with self.policy.shard(first, max(1, len(prompts))):
                return self.policy.generate(prompts, self.sampling, seed=seed, told=told)

        def complete_other(prompts: Sequence[Prompt], first: int) -> list[Completion]:
            return other.generator(prompts, self.sampling, seed=seed + 1, told=told, first=first)

        ours = complete_together(self.ranks, self.prompts, complete)
        theirs = complete_together(self.ranks, other.prompts, complete_other)
        return [Pair(*row) for row in zip(self.prompts, ours, theirs, strict=True)]

    def ask(self, pairs: Sequence[Pair], judge: Judge | None = None) -> list[Verdict]:
        """The verdicts of its judge, or of `judge`, in which the place of an answer does not count.

        It is asked about some pairs at a time; a person, who can go back to earlier pairs, about all.
        """
        judge = self.judge if judge is None else judge
        pairs = [pair.with_thoughts() for pair in pairs] if self.show_thoughts else pairs
        size = len(pairs) if adapt(judge, BaseJudge).interactive else JUDGED_AT_ONCE
        count = _Count(self.tell, "judged", len(pairs))
        verdicts: list[Verdict] = []
        for start in range(0, len(pairs), size):
            count.add(0)
            verdicts += judge_both_orders(judge, pairs[start : start + size])
            count.add(min(size, len(pairs) - start))
        return verdicts

    def measure(self, step: int, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> Evaluation:
        """The rates and metrics of judged pairs."""
        prompts, ours = [p.prompt for p in pairs], [p.first for p in pairs]
        controlled = stats.length_controlled(pairs, verdicts)
        told = _Count(self.tell, "measured", len(ours)).add
        found = {
            "length_controlled_win_rate": controlled.rate,
            "length_controlled_low": controlled.low,
            "length_controlled_high": controlled.high,
            **stats.judge_metrics(pairs, verdicts),
            **stats.completion_metrics(ours),
            **divergence(self.policy, prompts, ours, self.batch_size, told),
        }
        if self.answer:
            found["accuracy"] = stats.accuracy(prompts, ours, self.answer)
        found |= stats.by_source(pairs, verdicts, self.answer)
        against = self._against().label
        return Evaluation(step, stats.win_rate(verdicts), found, pairs, verdicts, self.judge_name, against)

    def _against(self) -> Opponent:
        policy = self.policy
        start = Generator(policy.start, policy.tokenizer, pool_bytes=policy.pool_bytes)
        return self.opponent or Opponent("start", start, self.prompts)


def sampling_of(sampler: Sampler, temperature: float | None) -> Sampling:
    """The run's own sampling settings, or mlx-lm's where its sampler does not give them."""
    sampling = adapt(sampler, BaseSampler).sampling
    return sampling if temperature is None else evolve(sampling, temperature=temperature)


def judge_both_orders(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    """One verdict per pair, free of the judge's liking for a place.

    Each pair is asked about a second time with its answers swapped, and the two verdicts are averaged. That
    is not needed where a verdict already holds both orders, or where the judge is `symmetric`. A person is
    asked once, about every other pair with its answers swapped. Of several judges, each is asked in its way.
    """
    able = adapt(judge, BaseJudge)
    if isinstance(able, RoutingJudge):
        return able.routed(pairs, judge_both_orders)
    if able.symmetric:
        return able.judge(pairs)
    if able.interactive:
        return _judge_every_other_swapped(able, pairs)
    verdicts = able.judge(pairs)
    again = [i for i, v in enumerate(verdicts) if v.orders is None and v.status in ("ok", "tie")]
    swapped = able.judge([pairs[i].swapped() for i in again]) if again else []
    both = {i: average_orders(verdicts[i], v.swapped()) for i, v in zip(again, swapped, strict=True)}
    return [both.get(i, v) for i, v in enumerate(verdicts)]


def average_orders(given: Verdict, swapped: Verdict) -> Verdict:
    """Two verdicts on one pair, asked as it stands and swapped, as one.

    An error or abstention in either order is one of both. Of judges that ask several, it is by whoever
    answered both orders, and what was said earlier is left out.
    """
    if swapped.status not in ("ok", "tie"):
        return swapped
    first, second = (v.probability if v.status == "ok" else 0.5 for v in (given, swapped))
    both = Verdict.from_probability((first + second) / 2, reason=given.reason, orders=(first, second))
    return evolve(both, by=given.by if given.by == swapped.by else None)


def _judge_every_other_swapped(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    shown = [pair.swapped() if i % 2 else pair for i, pair in enumerate(pairs)]
    try:
        verdicts: Sequence[Verdict] = judge.judge(shown)
    except StopRun as stop:
        raise StopRun(stop.reason, _as_given(stop.verdicts), failed=stop.failed) from stop
    return _as_given(verdicts)


def _as_given(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [v.swapped() if i % 2 else v for i, v in enumerate(verdicts)]


def divergence(
    policy: Policy,
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    batch_size: int,
    told: Told = ignore,
) -> dict[str, float]:
    """KL(policy, reference) per completion in nats, estimated from completions of the policy.

    The mean of ``log pi(y) - log ref(y)`` over the completions, each a sum over its tokens, and the standard
    error of that mean. Unbiased where they were sampled at temperature 1 without truncation. Raises `StopRun`
    where one is not finite.
    """
    policy.model.eval()
    ratios: list[float] = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        rows = lay_out(prompts[part], completions[part])
        with policy.common_layers.recorded():
            theirs = policy.reference_scorer.logprobs(rows)
        with policy.common_layers.given():
            per_token = policy.scorer.logprobs(rows) - theirs
        ratios += per_token.sum(-1).tolist()  # type: ignore[arg-type]
        told(len(prompts[part]))
    if not all(map(math.isfinite, ratios)):
        raise StopRun(
            "the log-probabilities of held-out completions became NaN or infinite, under the policy or its "
            "reference. Try a lower training.learning_rate, or model.dtype: float32.",
            failed=True,
            resumable=False,
        )
    error = stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
    return {"kl": fmean(ratios), "kl_se": error}
