"""The `llm` judge: a language model is asked which answer is better, and its probability is read off."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attrs import Attribute, define, field
from attrs.validators import ge, gt, in_, instance_of, le, lt, min_len

from prefloop import BaseJudge, Pair, UserError, Verdict
from prefloop_plugins.questions import DEFAULT_RUBRIC, MIN_LABEL_MASS, whole_transcript

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop_plugins.judges.label_reader import LabelReader, Reading
    from prefloop_plugins.judges.reply_reader import ReplyReader
    from prefloop_plugins.judges.thinking import Thinker

Orders = Literal["both", "random", "fixed"]
Read = Literal["probability", "reply"]
Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]
Sharded = Literal["none", "tensor", "pipeline"]


def _as_labels(value: tuple[str, str] | list[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value


def _two_different(_: Any, __: Attribute[Any], value: tuple[str, str]) -> None:
    texts = isinstance(value, tuple) and all(isinstance(label, str) and label.strip() for label in value)
    if not texts or len(value) != 2 or value[0].strip() == value[1].strip():
        raise ValueError(f"'labels' must be two different texts, such as [A, B]: {value!r}")


def _finite(_: Any, attribute: Attribute[Any], value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"'{attribute.name}' must be finite: {value!r}")


def _read_as_stored(judge: LlmJudge, _: Any, value: Sharded) -> None:
    if value != "none" and judge.quantize != "none":
        raise ValueError(
            "a sharded judge is loaded as it is stored: quantize its folder (mlx_lm.convert --quantize) and "
            "leave 'quantize' out"
        )
    if value != "none" and (judge.thinking or judge.read == "reply"):
        raise ValueError(
            "a sharded judge reads probabilities only: leave out 'thinking' and 'read: reply', with which "
            "ranks could come to write different things"
        )


def longer_by(first: str, second: str) -> float:
    """``ln((|first| + 1) / (|second| + 1))`` in characters: how much longer an answer is than the other."""
    return math.log((len(first) + 1) / (len(second) + 1))


@define
class LlmJudge(BaseJudge):
    """Asks a language model in one forward pass, without decoding.

    ``P(first is better) = P(A) / (P(A) + P(B))`` at the answer position, averaged over both orders of
    the answers, so that a bias towards a position cancels; `Verdict.gap` keeps it visible.

    Model card: any causal language model that mlx-lm loads and that follows a short instruction will do;
    small ones lean towards a position, like long and confident answers, and know little, so check one
    on pairs whose answer is known before it trains anything. What it says is a preference, not a fact.

    A reasoning model may think first (`thinking`): its thought is decoded within a budget and closed
    where that ran out, then the probability is read as before. `read: reply` decodes the label too, for
    models whose labels are not single tokens; a reply that is anything but a label is an error verdict.

    What it says is corrected, in each order, for liking a place and for liking length::

        P = sigmoid(logit(p) / temperature - position - length ln((|shown first| + 1) / (|shown second| + 1)))

    where ``p`` is what is read and ``P`` that the answer shown first is better; lengths are in
    characters. A term for length in a logistic model of preferences is that of AlpacaEval 2 (Dubois et al.
    2024, arXiv 2404.04475), with the logarithm of a ratio for their tanh, which needs a data set.
    `prefloop judge --fit` fits all three to a person's labels.

    The model is loaded by `prepare`, or when first asked. Raises `UserError` where it cannot be loaded
    or asked.
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
    sharded: Sharded = field(
        default="none",
        validator=[in_(("none", "tensor", "pipeline")), _read_as_stored],
        metadata={
            "identity": False,
            "help": "Spread a judge that no rank can hold over all of them: a part of every layer for each, "
            "or some of the layers. All ranks then judge every pair together.",
        },
    )
    orders: Orders = field(
        default="both",
        validator=in_(("both", "random", "fixed")),
        metadata={
            "help": "Ask in both orders of the answers and average, or, for half the cost and with its bias, "
            "once in a random order (the same for the same pair) or in the fixed one they come in."
        },
    )
    labels: tuple[str, str] = field(
        default=("A", "B"),
        converter=_as_labels,
        validator=_two_different,
        metadata={
            "help": "What the judge calls the two answers; each a single token for it unless read is reply."
        },
    )
    read: Read = field(
        default="probability",
        validator=in_(("probability", "reply")),
        metadata={
            "help": "Read the labels' probabilities off one forward pass, or decode the reply, which must be "
            "a label and nothing else."
        },
    )
    thinking: bool = field(
        default=False,
        validator=instance_of(bool),
        metadata={"help": "Let a reasoning model think before it answers: slower by the thought."},
    )
    max_thinking: int = field(
        default=1024,
        validator=gt(0),
        metadata={"help": "Tokens that a thought may have; a longer one is closed there."},
    )
    thinking_temperature: float = field(
        default=0.6,
        validator=ge(0),
        metadata={"help": "Temperature of the thought, drawn alike for equal questions; 0 is greedy."},
    )
    temperature: float = field(
        default=1.0,
        validator=gt(0),
        metadata={
            "help": "Divides the log-odds between the labels; above 1 the judge is taken as less certain."
        },
    )
    position: float = field(
        default=0.0,
        validator=_finite,
        metadata={
            "help": "Log-odds by which it favours the answer shown first, subtracted in either order; "
            "below 0 it favours the second."
        },
    )
    length: float = field(
        default=0.0,
        validator=_finite,
        metadata={
            "help": "Log-odds by which it favours an answer for every e-fold of its characters, subtracted; "
            "below 0 it favours the shorter one."
        },
    )
    tie_margin: float = field(
        default=0.01,
        validator=[ge(0), lt(0.5)],
        metadata={"help": "A probability at most this far from one half is a tie."},
    )
    batch_size: int = field(
        default=16,
        validator=gt(0),
        metadata={
            "identity": False,
            "help": "Questions per forward pass, at most; a pair asks one for each order.",
        },
    )
    max_length: int = field(
        default=8192,
        validator=gt(0),
        metadata={"help": "A pair whose question has more tokens is not judged, and counted as an error."},
    )
    min_label_mass: float = field(
        default=MIN_LABEL_MASS,
        validator=[ge(0), le(1)],
        metadata={
            "help": "Where both labels together are less likely than this, the verdict is an error: below "
            "one half the judge would sooner write something else."
        },
    )
    trust_remote_code: bool = field(
        default=False,
        validator=instance_of(bool),
        metadata={"identity": False, "help": "Let the judge's folder run its own Python code."},
    )
    _reader: Any = field(init=False, default=None, repr=False, eq=False)
    _thinker: Any = field(init=False, default=None, repr=False, eq=False)
    _loaded: Any = field(init=False, default=None, repr=False, eq=False)  # held: who loads it next shares it
    _limit: int = field(init=False, default=0, repr=False, eq=False)

    @property
    def pairs_per_call(self) -> int:
        """As many pairs as fill a batch with their questions."""
        return max(1, self.batch_size // (2 if self.orders == "both" else 1))

    @property
    def spread(self) -> bool:
        """Whether its model is spread over the ranks."""
        return self.sharded != "none"

    def prepare(self) -> None:
        """Load the model. Raises `UserError` where it cannot be loaded or asked."""
        if self._reader is None:
            self._open()

    def pass_bytes(self, pairs: int, shortest: int, longest: int, completion: int) -> int:
        """Most bytes of a batch of questions; 0 where the model is not loaded."""
        if self._reader is None:
            return 0
        from prefloop_plugins.judges.memory import Shape

        shape, answers = Shape.of(self._loaded), 2 * completion
        rows = min(self.batch_size, pairs * (2 if self.orders == "both" else 1))
        if self.read == "reply" or self.thinking:
            question = len(self._reader.encode("", "", "")) + longest + answers
            written = self._thinker.overhead if self._thinker else self._reader.max_tokens
            return shape.reading(rows, 0, question, room=written)
        batches = self._reader.batches(rows, shortest, longest, answers, both_orders=self.orders == "both")
        return max(shape.reading(*batch) for batch in batches)

    def depends_on(self) -> tuple[str, ...]:
        """Its model."""
        return (self.model,)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair; an unreadable reply or too long a question is an error, not a label."""
        if not pairs:
            return []
        reader: LabelReader | ReplyReader = self._reader or self._open()
        asked = [self._questions(reader, pair) for pair in pairs]
        short = [questions for questions in asked if self._fits(questions)]
        distinct = list(dict.fromkeys(question for questions in short for question in questions))
        thinker: Thinker | None = self._thinker
        thought = thinker(distinct) if thinker else distinct
        readings = dict(zip(distinct, reader.read(thought), strict=True))
        return [
            self._verdict(pair, [readings[question] for question in questions])
            if self._fits(questions)
            else Verdict.error(f"the question has {len(questions[0])} tokens, more than {self._limit}")
            for pair, questions in zip(pairs, asked, strict=True)
        ]

    def swaps(self, pair: Pair) -> bool:
        """Whether the pair's second answer is shown first where it is asked only once."""
        if self.orders != "random":
            return False
        texts = [pair.prompt.text, pair.first.text, pair.second.text]
        return bool(hashlib.sha256(json.dumps(texts).encode()).digest()[0] & 1)

    def _questions(self, reader: LabelReader | ReplyReader, pair: Pair) -> list[tuple[int, ...]]:
        prompt, first, second = whole_transcript(pair.prompt), pair.first.text, pair.second.text
        if self.orders == "both":
            return [reader.encode(prompt, first, second), reader.encode(prompt, second, first)]
        if self.swaps(pair):
            first, second = second, first
        return [reader.encode(prompt, first, second)]

    def _fits(self, questions: Sequence[Sequence[int]]) -> bool:
        return max(map(len, questions)) <= self._limit

    def _verdict(self, pair: Pair, readings: Sequence[Reading]) -> Verdict:
        for reading in readings:
            if not reading.mass >= self.min_label_mass or reading.mass == 0:  # a NaN is unreadable too
                return Verdict.error(f"the reply is unreadable: {self._said(reading)}")
        longer = longer_by(pair.first.text, pair.second.text)
        if self.orders == "both":
            as_given = self._corrected(readings[0].first, longer)
            swapped = self._corrected(readings[1].first, -longer)
            probability, orders = 0.5 + (as_given - swapped) / 2, (as_given, 1.0 - swapped)
        else:
            swaps = self.swaps(pair)
            asked = self._corrected(readings[0].first, -longer if swaps else longer)
            probability, orders = (1.0 - asked if swaps else asked), None
        if pair.first.text == pair.second.text:
            return Verdict.tie(orders=orders)
        return Verdict.from_probability(probability, tie_margin=self.tie_margin, orders=orders)

    def _corrected(self, probability: float, longer: float) -> float:
        """The formula of the class; `longer` is its logarithm. What is certain stays so."""
        offset = self.position + self.length * longer
        if probability in (0.0, 1.0) or (self.temperature == 1.0 and offset == 0):
            return probability
        x = (math.log(probability) - math.log1p(-probability)) / self.temperature - offset
        return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))

    def _said(self, reading: Reading) -> str:
        if reading.reply is not None:
            return repr(reading.reply)
        a, b = self.labels
        return f"{a} or {b} has probability {reading.mass:.2g}"

    def _open(self) -> LabelReader | ReplyReader:
        from prefloop.model.limits import check_ids
        from prefloop.model.mlx_lm_internals import warn_of_window

        loaded = self._load()
        try:
            reader = self._make_reader(loaded)
            thinker = self._make_thinker(loaded) if self.thinking else None
        except ValueError as error:
            raise UserError(f"judge model '{self.model}': {error}.") from error
        shortest = reader.encode("", "", "")
        check_ids(loaded.model, shortest, f"judge model '{self.model}': its question")
        written = reader.max_tokens + (thinker.overhead if thinker else 0)
        self._limit = self._longest_question(loaded, written)
        if len(shortest) > self._limit:
            raise UserError(
                f"judge model '{self.model}': its question has {len(shortest)} tokens before anything is "
                f"quoted in it, and 'max_length' and the texts that the model takes leave {self._limit}. "
                f"Shorten 'system'{', or lower max_thinking' if self.thinking else ''}."
            )
        warn_of_window(loaded.config, f"judge model '{self.model}'", self._limit + written)
        self._reader, self._thinker, self._loaded = reader, thinker, loaded
        return reader

    def _load(self) -> Any:
        from prefloop import load_model

        if self.sharded == "none":
            return load_model(self.model, quantize=self.quantize, trust_remote_code=self.trust_remote_code)
        from prefloop_plugins.judges.sharded import load_sharded

        return load_sharded(self.model, self.sharded, trust_remote_code=self.trust_remote_code)

    def _make_reader(self, loaded: Any) -> LabelReader | ReplyReader:
        from prefloop_plugins.judges.label_reader import LabelReader
        from prefloop_plugins.judges.reply_reader import ReplyReader

        kind: type[LabelReader | ReplyReader] = LabelReader if self.read == "probability" else ReplyReader
        return kind(
            loaded.model,
            loaded.tokenizer,
            rubric=self.system,
            labels=self.labels,
            batch_size=self.batch_size,
            thinking=self.thinking,
        )

    def _make_thinker(self, loaded: Any) -> Thinker:
        from prefloop_plugins.judges.thinking import Thinker

        return Thinker(
            loaded.model,
            loaded.tokenizer,
            max_thinking=self.max_thinking,
            temperature=self.thinking_temperature,
            batch_size=self.batch_size,
        )

    def _longest_question(self, loaded: Any, written: int) -> int:
        """Tokens that a question may have, so that it fits the model with what is `written` after it."""
        from prefloop.model.limits import trained_length

        trained_for = trained_length(loaded.config)
        if not trained_for:
            return self.max_length
        left = trained_for - written
        if left <= 0 and self.thinking:
            raise UserError(
                f"judge model '{self.model}': a thought of {self.max_thinking} tokens leaves no room for the "
                f"question, as the model takes {trained_for} tokens. Lower 'max_thinking'."
            )
        return min(self.max_length, max(left, 0))
