"""The records that flow through the loop.

A prompt is sampled into a `Pair`, a judge turns the pair into a `Verdict`, pairs with a usable verdict
become a `PreferenceBatch`, and scoring that batch gives the `Scores` that losses and bonuses read.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import Factory, astuple, evolve, field, frozen

from prefloop.deprecated import moved

if TYPE_CHECKING:
    import mlx.core as mx

Source = Literal["policy", "reference", "file"]
Status = Literal["ok", "tie", "abstained", "error"]
Message = Mapping[str, Any]
PERSON = "person"
"""What `Verdict.by` says of a verdict that a person gave, whichever judge asked."""
SOURCE = "source/"
"""What the names of metrics of one source of a mixture begin with; the source's name and a slash follow."""
ROUNDING = 1e-6
"""A probability this close to one half may owe its side to rounding alone: it is a tie."""


@frozen
class Prompt:
    """One prompt: as the policy reads it (`tokens`) and as a judge or a person reads it (`text`)."""

    tokens: tuple[int, ...]
    text: str
    messages: tuple[Message, ...] = field(default=(), hash=False)
    id: str = ""
    """Where it came from, such as ``prompts.jsonl:12``."""
    fields: Mapping[str, Any] = field(factory=dict, hash=False)
    """The other columns of its row, for judges that check an answer."""
    conversational: bool = False
    """Whether its row holds messages rather than a text."""
    source: str = ""
    """Which source of a mixture it is from, by name; empty where a run has one set of prompts."""


def _texts_or_ids(_: object, __: object, value: tuple[str | int, ...]) -> None:
    wrong = [one for one in value if one == "" or isinstance(one, bool) or (isinstance(one, int) and one < 0)]
    if wrong:
        raise ValueError(f"takes texts and token ids, not {wrong[0]!r}.")


@frozen
class Sampling:
    """How tokens are drawn; the meanings are those of mlx-lm's ``make_sampler``."""

    temperature: float = 0.8
    """Zero is greedy."""
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 512
    stop: tuple[str | int, ...] = field(default=(), validator=_texts_or_ids)
    """Texts and token ids at which a completion ends, besides the model's stop tokens."""


@frozen
class Completion:
    """What was sampled for a prompt. `tokens` include the stop token where sampling stopped."""

    tokens: tuple[int, ...]
    text: str
    stopped: bool = True
    """False where the length limit cut it."""
    source: Source = "policy"
    thought: str = ""
    """What a thinking model wrote before the answer that is its `text`."""
    thought_tokens: int = 0
    """How many of `tokens`, from the first, are the thought."""
    version: int | None = field(default=None, eq=False)
    """How many steps the policy had taken that it was sampled from; None where it was not sampled from one,
    or a run of an earlier release did not write it down."""

    @property
    def whole(self) -> str:
        """All that was written: the thought, and the answer."""
        return self.thought + self.text

    def of_version(self, version: int) -> Completion:
        """The same as sampled from the policy after so many steps, unless it says its own version."""
        unknown = self.version is None and self.source == "policy"
        return evolve(self, version=version) if unknown else self

    def with_thought(self) -> Completion:
        """The same with all of it as its text, where judges are to read the thought too."""
        return evolve(self, text=self.whole, thought="")


@frozen
class Pair:
    """Two completions of one prompt, in the order they were sampled."""

    prompt: Prompt
    first: Completion
    second: Completion

    def swapped(self) -> Pair:
        """The pair with its completions in the other order."""
        return Pair(self.prompt, self.second, self.first)

    def of_version(self, version: int) -> Pair:
        """The pair with `version` on what was sampled from the policy and does not say its own."""
        return Pair(self.prompt, *(c.of_version(version) for c in (self.first, self.second)))

    def with_thoughts(self) -> Pair:
        """The pair for a judge that is to read the thoughts too."""
        return Pair(self.prompt, self.first.with_thought(), self.second.with_thought())


def _in_unit_interval(_: object, __: object, value: float) -> None:
    if not (math.isfinite(value) and 0.0 <= value <= 1.0):
        raise ValueError(f"a verdict's probability lies between 0 and 1, not {value!r}")


def _chance(_: object, __: object, value: float | None) -> None:
    if value is not None and not 0.0 < value <= 1.0:
        raise ValueError(f"the chance of an audit is above 0 and at most 1, not {value!r}")


@frozen
class Verdict:
    """A judge's answer about one pair.

    `probability` is that of ``first`` being the better one. A verdict with status ``ok`` and a probability
    other than one half is a label. Abstentions and errors are none. What a tie teaches depends on `Ties`:
    nothing by default. Every pair without a label gets no weight and is counted.

    Raises `ValueError` where the probability is not a number between 0 and 1.
    """

    probability: float = field(validator=_in_unit_interval)
    status: Status = "ok"
    reason: str | None = None
    orders: tuple[float, float] | None = None
    """The same probability asked in each order, as the pair stands and swapped, where both were asked."""
    by: str | None = None
    """Who gave it, of a judge that asks several: ``person``, or a member's place such as ``members.0``."""
    earlier: Verdict | None = None
    """What the judge before had said, where another was asked after it."""
    audit: float | None = field(default=None, validator=_chance)
    """The chance with which the pair, which a person would not have seen, was drawn to be shown all the same;
    None where it was not drawn."""

    def __attrs_post_init__(self) -> None:
        if self.status == "ok" and self.probability == 0.5:
            object.__setattr__(self, "status", "tie")  # undecided, so that a tie is one in one way only

    @classmethod
    def from_scores(cls, first: float, second: float, *, temperature: float = 1.0) -> Verdict:
        """The verdict of a judge that scores each answer alone: Bradley-Terry, sigmoid((a - b) / T)."""
        if not (math.isfinite(first) and math.isfinite(second)):
            return cls.error(f"the scores {first!r} and {second!r} are not both finite")
        if first == second:
            return cls.tie()
        x = (first - second) / temperature
        return cls(1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x)))

    @classmethod
    def from_probability(
        cls,
        probability: float,
        *,
        tie_margin: float = 0.0,
        reason: str | None = None,
        orders: tuple[float, float] | None = None,
    ) -> Verdict:
        """The verdict of a computed probability: a tie within `tie_margin`, or rounding, of one half."""
        if abs(probability - 0.5) <= max(tie_margin, ROUNDING):
            return cls.tie(reason, orders)
        return cls(probability, reason=reason, orders=orders)

    @classmethod
    def tie(cls, reason: str | None = None, orders: tuple[float, float] | None = None) -> Verdict:
        """Neither is better."""
        return cls(0.5, "tie", reason, orders)

    @classmethod
    def abstain(cls, reason: str | None = None) -> Verdict:
        """The judge does not want to say (a person's skip)."""
        return cls(0.5, "abstained", reason)

    @classmethod
    def error(cls, reason: str) -> Verdict:
        """The judge could not say, and why."""
        return cls(0.5, "error", reason)

    def swapped(self) -> Verdict:
        """The verdict on `Pair.swapped` that says the same: probability and orders are of the other one."""
        orders = self.orders and (1.0 - self.orders[1], 1.0 - self.orders[0])
        earlier = self.earlier and self.earlier.swapped()
        return evolve(self, probability=1.0 - self.probability, orders=orders, earlier=earlier)

    @property
    def prefers_first(self) -> bool | None:
        """True or False for a label, None for a pair that carries none."""
        return self.probability > 0.5 if self.status == "ok" else None

    @property
    def cost_a_label(self) -> bool:
        """Whether a person has answered, be it with a skip: their time is spent."""
        return self.by == PERSON and self.status != "error"

    @property
    def reverses(self) -> bool:
        """Whether it is a label for the other side than `earlier` was for."""
        before = self.earlier.prefers_first if self.earlier else None
        return None not in (self.prefers_first, before) and self.prefers_first != before

    @property
    def outcome(self) -> Status:
        """Deprecated: the same as `status`, which is ``tie`` for every undecided verdict."""
        warnings.warn(
            "Verdict.outcome is now Verdict.status; the old name goes in a later version.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.status

    @property
    def gap(self) -> float | None:
        """Position bias: how far the two orders lie apart (0 to 1), or None where asked once."""
        return None if self.orders is None else abs(self.orders[0] - self.orders[1])


Ties = Literal["drop", "half", "keep"]
"""What a tie teaches.

drop: ignored. half: both orders, weight 0.5 each. keep: one pair with probability 0.5.
"""


@frozen
class PreferenceBatch:
    """Labelled pairs, ready to be scored. The sequences have equal lengths ``B``."""

    prompts: tuple[Prompt, ...]
    chosen: tuple[Completion, ...]
    rejected: tuple[Completion, ...]
    probability: tuple[float, ...]
    """That `chosen` is the better one: above one half, but for a tie that is kept."""
    weight: tuple[float, ...]
    """What the pair counts for: one, but for the halves of a tie."""

    @classmethod
    def from_verdicts(
        cls, pairs: Sequence[Pair], verdicts: Sequence[Verdict], ties: Ties = "drop"
    ) -> PreferenceBatch:
        """The pairs that carry a label, and ties as `ties` says; abstentions and errors drop out."""
        rows = [row for both in zip(pairs, verdicts, strict=True) for row in _labelled(*both, ties)]
        return cls(*zip(*rows, strict=True)) if rows else cls((), (), (), (), ())

    def __len__(self) -> int:
        return len(self.prompts)

    def split(self, size: int) -> Iterator[PreferenceBatch]:
        """Consecutive micro-batches of at most `size` pairs."""
        for i in range(0, len(self), size):
            yield self.select(range(i, min(i + size, len(self))))

    @property
    def tokens(self) -> int:
        """Tokens in all: each prompt, and both of its completions."""
        rows = (self.prompts, self.chosen, self.rejected)
        return sum(len(row.tokens) for part in rows for row in part)

    def by_length(self) -> PreferenceBatch:
        """The same pairs, the shortest first: by the longer of the two completions, then by the prompt."""

        def length(i: int) -> tuple[int, int]:
            longer = max(len(self.chosen[i].tokens), len(self.rejected[i].tokens))
            return longer, len(self.prompts[i].tokens)

        return self.select(sorted(range(len(self)), key=length))

    def select(self, places: Sequence[int]) -> PreferenceBatch:
        """The pairs at these places."""
        columns: tuple[tuple[Any, ...], ...] = astuple(self, recurse=False)
        return PreferenceBatch(*(tuple(column[i] for i in places) for column in columns))


_Labelled = tuple[Prompt, Completion, Completion, float, float]


def _labelled(pair: Pair, verdict: Verdict, ties: Ties) -> list[_Labelled]:
    """Rows of a preference batch: prompt, chosen, rejected, probability, weight."""
    prompt, first, second, p = pair.prompt, pair.first, pair.second, verdict.probability
    if verdict.prefers_first is not None:
        chosen_first = (prompt, first, second, p, 1.0)
        return [chosen_first if verdict.prefers_first else (prompt, second, first, 1.0 - p, 1.0)]
    if verdict.status != "tie" or ties == "drop":
        return []
    if ties == "keep":
        return [(prompt, first, second, 0.5, 1.0)]
    return [(prompt, first, second, 1.0, 0.5), (prompt, second, first, 1.0, 0.5)]


@frozen(eq=False)
class TokenScores:
    """Per-token log-probabilities of ``B`` completions, float32 ``[B, T]``, zero where `mask` is 0."""

    policy: mx.array
    reference: mx.array
    mask: mx.array


@frozen(eq=False)
class Scores:
    """What losses and bonuses read: float32 arrays of shape ``[B]``, one entry per labelled pair.

    Log-probabilities (nats) are sums over completion tokens, the stop token included; prompt and
    padding never count. A field that no component asked for through ``needs`` is None.
    """

    policy_chosen: mx.array
    policy_rejected: mx.array
    reference_chosen: mx.array | None
    reference_rejected: mx.array | None
    chosen_tokens: mx.array
    rejected_tokens: mx.array
    probability: mx.array
    """The verdict's probability that chosen is the better one."""
    kl_chosen: mx.array | None = None
    """Exact KL(policy, reference) over the vocabulary, summed over the completion's positions."""
    kl_rejected: mx.array | None = None
    chosen_per_token: TokenScores | None = None
    rejected_per_token: TokenScores | None = None
    chosen_from_reference: mx.array | None = None
    """1.0 where the completion was sampled from the reference, else 0.0."""
    rejected_from_reference: mx.array | None = None
    chosen: Sequence[Completion] | None = None
    """The ``B`` completions themselves, for a component that reads what they say."""
    rejected: Sequence[Completion] | None = None

    @property
    def margin(self) -> mx.array:
        """``d`` of DPO (arXiv 2305.18290): the chosen log-ratio minus the rejected one, ``[B]``."""
        if self.reference_chosen is None or self.reference_rejected is None:
            raise ValueError("the margin needs the reference: add 'reference' to the component's needs")
        return (self.policy_chosen - self.reference_chosen) - (self.policy_rejected - self.reference_rejected)


Need = Literal["reference", "kl", "per_token", "reference_samples", "completions"]
"""What a loss or bonus may ask scoring for, in its ``needs``:

- ``reference``: the reference's log-probabilities (what a component without ``needs`` gets);
- ``kl``: `Scores.kl_chosen` and `Scores.kl_rejected`;
- ``per_token``: `Scores.chosen_per_token` and `Scores.rejected_per_token`;
- ``reference_samples``: a sampler that draws completions from the reference;
- ``completions``: `Scores.chosen` and `Scores.rejected`, the completions themselves.
"""


@frozen
class Progress:
    """How far the run is. `epoch` counts passes over the prompts and is fractional within one."""

    step: int
    steps: int
    epoch: float
    epochs: float
    seed: int = 0
    """Drawn from the run's seed and the step: equal for equal steps, so samplers can be seeded."""


@frozen
class Step:
    """One finished step, as observers and ``for step in Loop(...)`` see it."""

    progress: Progress
    metrics: Mapping[str, float]
    pairs: Sequence[Pair] = Factory(tuple)
    verdicts: Sequence[Verdict] = Factory(tuple)


@frozen
class Rate:
    """A proportion with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    pairs: int


@frozen
class Opinion:
    """What one more judge says of the pairs of an evaluation. It is reported and decides nothing."""

    judge: str
    """Its qualified name; of several judges with one name, the later ones with a number."""
    win_rate: Rate
    verdicts: Sequence[Verdict] = Factory(tuple)
    """One for each of the evaluation's pairs; empty where only the rate was kept."""


@frozen
class Evaluation:
    """The policy against the start of the run, on held-out prompts.

    In each of `pairs` the first completion is the policy's, the second the start's. A metric that is not
    defined is NaN; in files it is null.
    """

    step: int
    win_rate: Rate
    metrics: Mapping[str, float]
    pairs: Sequence[Pair] = Factory(tuple)
    verdicts: Sequence[Verdict] = Factory(tuple)
    judge: str = ""
    """Its qualified name."""
    against: str = "start"
    """Another model than the run's start, where `prefloop eval` was given one."""
    others: Sequence[Opinion] = Factory(tuple)
    """What the other judges in ``evaluation.judge`` say of the same pairs."""
    teacher: str = ""
    """Which of its judges taught the policy, by its name; empty where none of them did."""

    @property
    def source_rates(self) -> dict[str, Rate]:
        """The win rate on the prompts of each source of a mixture."""
        found = {}
        for name, rate in self.metrics.items():
            source, _, metric = name.removeprefix(SOURCE).rpartition("/")
            if name.startswith(SOURCE) and metric == "win_rate" and not math.isnan(rate):
                low, high = self.metrics[f"{name}_low"], self.metrics[f"{name}_high"]
                found[source] = Rate(rate, low, high, int(self.metrics[f"{SOURCE}{source}/pairs"]))
        return found


__getattr__ = moved(
    __name__,
    {
        name: f"prefloop.components:{name}"
        for name in ("Sampler", "Judge", "Loss", "Bonus", "Algorithm", "Observer", "Stateful")
    },
)
