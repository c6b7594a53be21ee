"""The `llm` judge: a language model is asked which answer is better, and its probability is read off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attrs import Attribute, define, field
from attrs.validators import ge, gt, in_, instance_of, le, min_len

from prefloop import Pair, UserError, Verdict
from prefloop_plugins.judge_prompt import DEFAULT_RUBRIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop_plugins.label_reader import LabelReader, Reading

Orders = Literal["both", "first"]
Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]

ROUNDING = 1e-6
"""Below this distance from one half, float32 rounding could have made the difference: a tie."""


def _as_labels(value: tuple[str, str] | list[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value


def _two_different(_: Any, __: Attribute[Any], value: tuple[str, str]) -> None:
    texts = isinstance(value, tuple) and all(isinstance(label, str) and label.strip() for label in value)
    if not texts or len(value) != 2 or value[0].strip() == value[1].strip():
        raise ValueError(f"'labels' must be two different texts, such as [A, B]: {value!r}")


@define
class LlmJudge:
    """Asks a language model in one forward pass, without decoding.

    ``P(first is better) = P(A) / (P(A) + P(B))`` at the answer position, averaged over both orders of
    the answers, so that a bias towards a position cancels; `Verdict.gap` keeps it visible.

    The model is loaded when first asked. Raises `UserError` where it cannot be loaded or asked.
    """

    shorthand: ClassVar[str] = "model"

    model: str = field(
        default="Qwen/Qwen3-0.6B",
        validator=[instance_of(str), min_len(1)],
        metadata={"help": "The judge: a model folder, a Hub id, or embedded:judge."},
    )
    system: str = field(
        default=DEFAULT_RUBRIC,
        validator=instance_of(str),
        metadata={"help": "The rubric, given as the system prompt word for word."},
    )
    quantize: Quantize = field(
        default="none",
        validator=in_(("none", "4bit", "6bit", "8bit", "mxfp4")),
        metadata={"help": "Quantize the judge's weights on loading."},
    )
    orders: Orders = field(
        default="both",
        validator=in_(("both", "first")),
        metadata={"help": "Ask in both orders of the answers, or only in the first (half the cost)."},
    )
    labels: tuple[str, str] = field(
        default=("A", "B"),
        converter=_as_labels,
        validator=_two_different,
        metadata={"help": "What the judge calls the two answers; each a single token for it."},
    )
    batch_size: int = field(
        default=16,
        validator=gt(0),
        metadata={"help": "Questions per forward pass, at most; a pair asks one for each order."},
    )
    max_length: int = field(
        default=8192,
        validator=gt(0),
        metadata={"help": "A pair whose question has more tokens is not judged, and counted as an error."},
    )
    min_label_mass: float = field(
        default=0.05,
        validator=[ge(0), le(1)],
        metadata={"help": "Where both labels together are less likely than this, the reply is unreadable."},
    )
    trust_remote_code: bool = field(
        default=False,
        validator=instance_of(bool),
        metadata={"help": "Let the judge's folder run its own Python code."},
    )
    _reader: Any = field(init=False, default=None, repr=False, eq=False)
    _loaded: Any = field(init=False, default=None, repr=False, eq=False)  # held: who loads it next shares it
    _limit: int = field(init=False, default=0, repr=False, eq=False)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair; an unreadable reply or too long a question is an error, not a label."""
        if not pairs:
            return []
        reader: LabelReader = self._reader or self._open()
        asked = [self._questions(reader, pair) for pair in pairs]
        short = [questions for questions in asked if self._fits(questions)]
        distinct = list(dict.fromkeys(question for questions in short for question in questions))
        readings = dict(zip(distinct, reader.read(distinct), strict=True))
        return [
            self._verdict([readings[question] for question in questions])
            if self._fits(questions)
            else Verdict.error(f"the question has {len(questions[0])} tokens, more than {self._limit}")
            for questions in asked
        ]

    def _questions(self, reader: LabelReader, pair: Pair) -> list[tuple[int, ...]]:
        prompt, first, second = pair.prompt.text, pair.first.text, pair.second.text
        questions = [reader.encode(prompt, first, second)]
        if self.orders == "both":
            questions.append(reader.encode(prompt, second, first))
        return questions

    def _fits(self, questions: Sequence[Sequence[int]]) -> bool:
        return max(map(len, questions)) <= self._limit

    def _verdict(self, readings: Sequence[Reading]) -> Verdict:
        for reading in readings:
            if not reading.mass >= self.min_label_mass:  # a NaN is unreadable too
                a, b = self.labels
                return Verdict.error(
                    f"the reply is unreadable: {a} or {b} has probability {reading.mass:.2g}"
                )
        if self.orders == "first":
            probability, orders = readings[0].first, None
        else:
            as_given, swapped = (reading.first for reading in readings)
            probability = 0.5 + (as_given - swapped) / 2
            orders = (as_given, 1.0 - swapped)
        if abs(probability - 0.5) < ROUNDING:
            return Verdict.tie(orders=orders)
        return Verdict(probability, orders=orders)

    def _open(self) -> LabelReader:
        from prefloop import load_model
        from prefloop_plugins.label_reader import LabelReader

        loaded = load_model(self.model, quantize=self.quantize, trust_remote_code=self.trust_remote_code)
        trained_for = loaded.config.get("max_position_embeddings") or self.max_length
        self._limit = min(self.max_length, trained_for)
        try:
            reader = LabelReader(
                loaded.model,
                loaded.tokenizer,
                rubric=self.system,
                labels=self.labels,
                batch_size=self.batch_size,
            )
        except ValueError as error:
            raise UserError(f"judge model '{self.model}': {error}.") from error
        self._reader, self._loaded = reader, loaded
        return reader
