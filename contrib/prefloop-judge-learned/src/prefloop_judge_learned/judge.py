"""The `learned` judge: it prefers what a person prefers, as far as their labels tell."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from attrs import Attribute, define, field
from attrs.validators import ge, gt, in_, instance_of, le, min_len
from numpy.typing import NDArray

from prefloop import BaseJudge, Completion, Pair, Prompt, UserError, Verdict
from prefloop.errors import said_of
from prefloop.types import PERSON
from prefloop_judge_learned.heads import Ensemble, KeptOut, fit

if TYPE_CHECKING:
    import mlx.core as mx

    from prefloop_judge_learned.features import Reader
    from prefloop_judge_learned.labels import Label

Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]

FIRST_FIT = 10
"""Labels before the first fit."""
_PROBE = Pair(Prompt((), "a"), Completion((), "b"), Completion((), "c"))


def _as_paths(value: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value


def _are_paths(_: Any, __: Attribute[Any], value: tuple[str, ...]) -> None:
    if not isinstance(value, tuple) or not all(isinstance(path, str) and path for path in value):
        raise ValueError(f"'labels' must be a list of paths, such as [runs/friday, pairs.jsonl]: {value!r}")


@define
class LearnedJudge(BaseJudge):
    """Bradley-Terry heads on the hidden states of a frozen language model, fitted to labels as they come in.

    The mean of the heads' logits, calibrated, is the probability. Where the heads do not agree on a side it
    abstains, and it does so on every pair until it has foretold labels better than chance: each label is
    predicted before anything is learnt from it, and the interval of the share that it agreed with has to lie
    above one half. That interval holds at all times at once (`KeptOut.interval`), so that looking after every
    step does not make it right by luck. An abstention keeps the probability that would have been said.

    It learns from what it is given by `learn`: as a member of a cascade from the verdicts of people, and
    never from its own. The features of an answer are the mean hidden state over it and, unless `surface` is
    false, counts such as its length. A prompt's labels go to one and the same bootstrap samples.

    The model is loaded by `prepare`, or when first asked. Raises `UserError` where it cannot be loaded, and
    where `labels` cannot be read or hold none.
    """

    symmetric: ClassVar[bool] = True

    model: str = field(
        default="Qwen/Qwen3-0.6B",
        validator=[instance_of(str), min_len(1)],
        metadata={
            "help": "The model whose hidden states are read: a folder or Hub id. The policy's costs no "
            "memory; it is read as it was before training."
        },
    )
    quantize: Quantize = field(
        default="none",
        validator=in_(("none", "4bit", "6bit", "8bit", "mxfp4")),
        metadata={"help": "Quantize its weights on loading; as for the policy to share them."},
    )
    labels: tuple[str, ...] = field(
        default=(),
        converter=_as_paths,
        validator=_are_paths,
        metadata={"help": "Runs and files of pairs whose labels it begins with, as for prefloop judge."},
    )
    surface: bool = field(
        default=True,
        validator=instance_of(bool),
        metadata={
            "help": "Whether it sees length, Markdown, punctuation and other counts, beside hidden states."
        },
    )
    heads: int = field(
        default=24, validator=ge(2), metadata={"help": "Heads, each with a bootstrap sample of its own."}
    )
    consensus: float = field(
        default=0.9,
        validator=[gt(0.5), le(1)],
        metadata={"help": "Share of heads that have to prefer one answer; below it the judge abstains."},
    )
    max_length: int = field(
        default=4096,
        validator=gt(0),
        metadata={"help": "A pair in which prompt and answer have more tokens is counted as an error."},
    )
    _reader: Any = field(init=False, default=None, repr=False, eq=False)
    _differences: list[NDArray[np.float32]] = field(init=False, factory=list, repr=False, eq=False)
    _targets: list[float] = field(init=False, factory=list, repr=False, eq=False)
    _prompts: list[int] = field(init=False, factory=list, repr=False, eq=False)
    _foretold: list[float] = field(init=False, factory=list, repr=False, eq=False)
    _ensemble: Ensemble | None = field(init=False, default=None, repr=False, eq=False)

    @property
    def foretold(self) -> KeptOut:
        """How its predictions of labels came out, each made before the label was learnt from."""
        return KeptOut(np.array(self._foretold, np.float64))

    def prepare(self) -> None:
        """Load the model, and learn from `labels`. Raises `UserError` where one of them cannot be read."""
        if self._reader is None:
            self._open()

    def depends_on(self) -> tuple[str, ...]:
        """Its model. The labels that it began with are part of its state."""
        return (self.model,)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair: an abstention where it is in doubt, an error where an answer is too long."""
        trusted = self._is_trusted()
        return [self._verdict(pair, trusted) for pair in pairs]

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        """Foretell the labels and ties that a person gave, and fit the heads anew with them."""
        said = [both for both in zip(pairs, verdicts, strict=True) if both[1].by == PERSON]
        trusted = self._is_trusted()
        self._learn([(pair, v.probability) for pair, v in said if v.status in ("ok", "tie")])
        self._tell(trusted)

    def state(self) -> Mapping[str, mx.array]:
        """What it has learnt from, and what it said of that before."""
        import mlx.core as mx

        if not self._targets:
            return {}
        return {
            "differences": mx.array(np.array(self._differences)),
            "targets": mx.array(np.array(self._targets, np.float32)),
            "prompts": mx.array(np.array(self._prompts, np.uint32)),
            "foretold": mx.array(np.array(self._foretold, np.float32)),
        }

    def restore(self, state: Mapping[str, mx.array]) -> None:
        """Go on from `state`, and not from `labels`. Raises `UserError` where its features are others."""
        saved, own = state["differences"].shape[1], len(self._difference(_PROBE))
        if saved != own:
            raise UserError(
                f"judge 'learned': its state has {saved} features of an answer, and with these options there "
                f"are {own}: 'model' or 'surface' was another."
            )
        self._differences = list(np.array(state["differences"]))
        self._targets = [float(p) for p in np.array(state["targets"])]
        self._prompts = [int(p) for p in np.array(state["prompts"])]
        self._foretold = [float(z) for z in np.array(state["foretold"])]
        self._fit()

    def _learn(self, labels: Sequence[Label]) -> None:
        """In parts that grow with what is known, so that every label after the first is foretold."""
        rows = [row for row in map(self._row, labels) if row is not None]
        while rows:
            size = max(FIRST_FIT, len(self._targets) // 2)
            part, rows = rows[:size], rows[size:]
            for difference, target, prompt in part:
                if self._ensemble is not None and target != 0.5:
                    logit, _ = self._ensemble(difference)
                    self._foretold.append(float(np.float32(math.copysign(1, target - 0.5) * logit)))
                self._differences.append(difference)
                self._targets.append(target)
                self._prompts.append(prompt)
            self._fit()

    def _row(self, label: Label) -> tuple[NDArray[np.float32], float, int] | None:
        """A label as the heads see it; None where its answers cannot be read."""
        pair, probability = label
        try:
            difference = self._difference(pair)
        except ValueError:
            return None
        return difference, float(np.float32(probability)), zlib.crc32(pair.prompt.text.encode())

    def _fit(self) -> None:
        if len(self._targets) < FIRST_FIT:
            return
        from prefloop_judge_learned.features import SURFACE

        differences = np.array(self._differences)
        counts = SURFACE if self.surface else 0
        blocks = [differences.shape[1] - counts, *([counts] if counts else [])]
        self._ensemble = fit(differences, self._targets, self._prompts, blocks=blocks, heads=self.heads)

    def _is_trusted(self) -> bool:
        return self.foretold.interval()[0] > 0.5

    def _verdict(self, pair: Pair, trusted: bool) -> Verdict:
        if pair.first.text == pair.second.text:
            return Verdict.tie()
        try:
            difference = self._difference(pair)
        except ValueError as error:
            return Verdict.error(str(error))
        if self._ensemble is None:
            return Verdict.abstain(self._why_not())
        logit, agreeing = self._ensemble(difference)
        probability = Verdict.from_scores(logit, 0.0).probability
        if not trusted:
            return Verdict(probability, "abstained", self._why_not())
        if agreeing < self.consensus:
            return Verdict(probability, "abstained", f"{agreeing:.0%} of its heads agree")
        return Verdict.from_probability(probability)

    def _why_not(self) -> str:
        if self.foretold.labels:
            return f"{self._record()}: not better than chance"
        return f"it has {len(self._targets)} labels, and foretells those after the first {FIRST_FIT}"

    def _record(self) -> str:
        """How its predictions came out, in words."""
        known = self.foretold
        low, high = known.interval()
        return (
            f"it has foretold {known.right} of {known.labels} labels ({low:.0%} to {high:.0%}) "
            f"and was {known.confidence:.0%} sure"
        )

    def _tell(self, was_trusted: bool) -> None:
        """Say so where it begins to speak, or falls silent."""
        if (trusted := self._is_trusted()) != was_trusted:
            does = "gives labels" if trusted else "gives no labels"
            print(f"learned  the judge {does} from now on: {self._record()}", flush=True)

    def _difference(self, pair: Pair) -> NDArray[np.float32]:
        """The first answer's features without the second's. Raises `ValueError` as `Reader` does."""
        from prefloop_judge_learned.features import surface

        reader: Reader = self._reader or self._open()
        first, second = (reader(pair.prompt, one.text) for one in (pair.first, pair.second))
        if not self.surface:
            return first - second
        return np.concatenate([first - second, surface(pair.first.text) - surface(pair.second.text)])

    def _open(self) -> Reader:
        from prefloop_judge_learned.features import open_reader
        from prefloop_judge_learned.labels import read_labels

        self._reader = reader = open_reader(self.model, quantize=self.quantize, max_length=self.max_length)
        for i, path in enumerate(self.labels):
            with said_of(f"labels.{i}"):
                self._learn(read_labels(path))
        self._tell(was_trusted=False)
        return reader
