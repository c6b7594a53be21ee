"""The `best-of-n` sampler: of n completions of each prompt, the best and the worst as a judge ranks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from attrs import Attribute, define, field, fields
from attrs.validators import ge, gt, in_, le

from prefloop import (
    BaseJudge,
    BaseSampler,
    Completion,
    Judge,
    Pair,
    Progress,
    Prompt,
    Sampling,
    StopRun,
    Verdict,
    adapt,
)
from prefloop.components import check_verdicts
from prefloop.errors import said_of
from prefloop_sampler_best_of_n.tournament import (
    FEW,
    Match,
    Result,
    Tournament,
    elimination,
    lowest_of_few,
    play_together,
    round_robin,
    two_deviations_below,
)

if TYPE_CHECKING:
    from prefloop import Policy

TOURNAMENTS: Mapping[tuple[str, str], Callable[[int], Tournament]] = {
    ("elimination", "worst"): elimination,
    ("elimination", "worst-of-5"): partial(elimination, among=FEW),
    ("round-robin", "worst"): round_robin,
    ("round-robin", "worst-of-5"): partial(round_robin, loser=lowest_of_few),
    ("round-robin", "mean-2sd"): partial(round_robin, loser=two_deviations_below),
}
"""By the tournament, and by who is set against the best of it."""


def _not_a_person(_: Any, attribute: Attribute[Any], value: Judge) -> None:
    if not isinstance(value, Judge):
        raise ValueError(f"'{attribute.name}' must be a judge, not {value!r}")
    if adapt(value, BaseJudge).interactive:
        raise ValueError(
            f"'{attribute.name}' must not ask a person, who would be asked about every pair of completions: "
            "let a model or a rule rank them, and the person judge the pair that is left"
        )


def _scored(sampler: BestOfN, attribute: Attribute[Any], value: str) -> None:
    if (sampler.tournament, value) not in TOURNAMENTS:
        raise ValueError(
            f"'{attribute.name}: {value}' goes by scores, which 'tournament: {sampler.tournament}' does not "
            "give: use round-robin"
        )


@define
class BestOfN(BaseSampler):
    """Draws `n` completions of each prompt and returns the best and the worst of them, in random order.

    `judge` ranks, in a tournament; the run's own judge then judges the pair, as it does any other. The
    ranking leaves no trace in the order of the pair. Completions of equal text enter once; where all are
    equal the pair is of two equal ones, which the run's judge will call a tie.

    A prompt takes at most ``ceil(3 n / 2) - 2`` judgements with ``elimination`` and ``n (n - 1) / 2`` with
    ``round-robin``, and one of the run's judge. Of two completions nobody asks which is the better.

    With ``mean-2sd`` the other one of the pair is not the worst but who is nearest to two standard deviations
    below the mean score, where the score is how often a completion wins a round-robin. The authors score by a
    reward model, and draw hundreds. Of up to five completions it is the worst, and of up to ten where the
    judge is consistent: such scores have no far outliers. ``worst-of-5`` is what the authors take in its
    place, and needs no scores: it does not become worse the more are drawn.

    Ties, abstentions and errors of the ranking judge decide no match. Raises `StopRun` where all of its
    verdicts in a step are errors, and `UserError` where it does not give one verdict per match.

    Best against worst: Pace et al., West-of-N, arXiv 2401.12086, for reward models; Dong et al., RLHF
    Workflow, arXiv 2405.07863, in online iterative DPO. Best against two deviations below the mean: Xiao et
    al., Finding the Sweet Spot, arXiv 2502.16825.
    """

    judge: Judge = field(
        validator=_not_a_person,
        metadata={"help": "Who ranks the completions, written as under judge; it may be another one."},
    )
    n: int = field(
        default=4, validator=ge(2), metadata={"help": "Completions per prompt, from which two are taken."}
    )
    tournament: Literal["elimination", "round-robin"] = field(
        default="elimination",
        validator=in_(("elimination", "round-robin")),
        metadata={"help": "Winners meet winners and losers losers, or everyone meets everyone."},
    )
    rejected: Literal["worst", "worst-of-5", "mean-2sd"] = field(
        default="worst",
        validator=[in_(("worst", "worst-of-5", "mean-2sd")), _scored],
        metadata={
            "help": "Whom the best is set against: the worst, the worst of any five or, of a round-robin, "
            "who is nearest to the mean score less two standard deviations."
        },
        kw_only=True,
    )
    temperature: float = field(
        default=0.8, validator=ge(0), metadata={"help": "Sampling temperature; 0 is greedy."}
    )
    top_p: float = field(
        default=0.95,
        validator=[gt(0), le(1)],
        metadata={"help": "Sample from the smallest set of tokens that holds this probability; 1 is off."},
    )
    top_k: int = field(
        default=0, validator=ge(0), metadata={"help": "Sample from this many likeliest tokens; 0 is off."}
    )
    min_p: float = field(
        default=0.0,
        validator=[ge(0), le(1)],
        metadata={"help": "Leave out tokens below this share of the likeliest one's probability; 0 is off."},
    )
    max_completion_length: int = field(
        default=512, validator=gt(0), metadata={"help": "A completion is cut after this many tokens."}
    )
    stop: tuple[str | int, ...] = field(
        default=(),
        validator=fields(Sampling).stop.validator,
        metadata={"help": "Texts and token ids at which a completion ends, besides the model's stop tokens."},
    )
    _prepared: bool = field(default=False, init=False, eq=False, repr=False)

    @property
    def sampling(self) -> Sampling:
        """The sampling options as the record that `Policy.generate` takes."""
        length = self.max_completion_length
        return Sampling(self.temperature, self.top_p, self.top_k, self.min_p, length, self.stop)

    def prepare(self) -> None:
        """Prepare the ranking judge, once. Raises `UserError` where it does."""
        if not self._prepared:
            adapt(self.judge, BaseJudge).prepare()
        self._prepared = True

    def close(self) -> None:
        """Close the ranking judge."""
        adapt(self.judge, BaseJudge).close()

    def depends_on(self) -> Sequence[str]:
        """What the ranking judge depends on."""
        return adapt(self.judge, BaseJudge).depends_on()

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`."""
        self.prepare()
        repeated = [prompt for prompt in prompts for _ in range(self.n)]
        drawn = policy.generate(repeated, self.sampling, seed=progress.seed)
        first = policy.prompts_before
        randoms = [Random(f"{progress.seed} {first + place}") for place in range(len(prompts))]
        entrants = [
            _in_random_order(drawn[i * self.n : (i + 1) * self.n], random) for i, random in enumerate(randoms)
        ]
        ends = self._ends(prompts, entrants)
        return [
            Pair(prompt, *(few[place] for place in random.sample(two, 2)))
            for prompt, few, two, random in zip(prompts, entrants, ends, randoms, strict=True)
        ]

    def _ends(
        self, prompts: Sequence[Prompt], entrants: Sequence[Sequence[Completion]]
    ) -> list[tuple[int, int]]:
        """The places of the best and the worst among the entrants of each prompt."""
        verdicts: list[Verdict] = []

        def judge(matches: Sequence[tuple[int, Match]]) -> list[Result]:
            asked = [Pair(prompts[at], entrants[at][i], entrants[at][j]) for at, (i, j) in matches]
            told = self._verdicts(asked)
            verdicts.extend(told)
            return [_result(verdict) for verdict in told]

        start = TOURNAMENTS[self.tournament, self.rejected]
        ends = play_together([start(len(few)) for few in entrants], judge)
        if verdicts and all(verdict.status == "error" for verdict in verdicts):
            raise StopRun(f"sampler.judge: it can rank nothing: {verdicts[0].reason}", failed=True)
        return ends

    def _verdicts(self, pairs: Sequence[Pair]) -> list[Verdict]:
        try:
            verdicts = self.judge.judge(pairs)
        except StopRun as stop:  # its verdicts belong to other pairs than those of the step
            raise StopRun(f"sampler.judge: {stop.reason}", failed=stop.failed) from stop
        with said_of("sampler.judge"):
            check_verdicts(type(self.judge).__name__, verdicts, len(pairs))
        return verdicts


def _result(verdict: Verdict) -> Result:
    return verdict.probability if verdict.status in ("ok", "tie") else None


def _in_random_order(completions: Sequence[Completion], random: Random) -> list[Completion]:
    """One completion of each text, shuffled; two where all texts are equal."""
    distinct = list({completion.text: completion for completion in completions}.values())
    if len(distinct) == 1:
        return list(completions[:2])
    random.shuffle(distinct)
    return distinct
