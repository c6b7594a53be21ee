"""The `reward` judge: a reward model scores each answer alone, and the difference decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attrs import define, field
from attrs.validators import gt, in_, min_len

from prefloop import BaseJudge, Completion, Pair, Prompt, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop_plugins.judges.reward_model import Scorer

Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]


@define
class RewardJudge(BaseJudge):
    """Scores answers with a Hugging Face sequence-classification reward model (one output), on mlx.

    ``P(first is better) = sigmoid((r_first - r_second) / temperature)``: the Bradley-Terry model that
    such models are trained by (Ouyang et al. 2022, arXiv 2203.02155, eq. 1). The conversation is laid out by
    the model's own chat template and tokenizer; nothing quoted in it becomes a special token.

    Model card: checkpoints of the Llama, Qwen and Gemma families, and any other whose trunk mlx-lm has.
    A reward is known up to a shift per prompt only, and drops in quality off the data it was trained on:
    a policy trained against it for long finds that out.

    The model is loaded by `prepare`, or when first asked. Raises `UserError` where it cannot be.
    """

    symmetric: ClassVar[bool] = True

    model: str = field(
        validator=min_len(1),
        metadata={
            "help": "The reward model: a folder or Hub id of a ...ForSequenceClassification checkpoint."
        },
    )
    temperature: float = field(
        default=1.0,
        validator=gt(0),
        metadata={"help": "P(first is better) = sigmoid(difference / temperature)."},
    )
    quantize: Quantize = field(
        default="none",
        validator=in_(("none", "4bit", "6bit", "8bit", "mxfp4")),
        metadata={"help": "Quantize the trunk's weights on loading."},
    )
    batch_size: int = field(
        default=16,
        validator=gt(0),
        metadata={"identity": False, "help": "Answers per forward pass, at most."},
    )
    max_length: int = field(
        default=4096,
        validator=gt(0),
        metadata={"help": "A pair in which prompt and answer have more tokens is counted as an error."},
    )
    _scorer: Any = field(init=False, default=None, repr=False, eq=False)

    def prepare(self) -> None:
        """Load the model. Raises `UserError` where it cannot be loaded or asked."""
        if self._scorer is None:
            self._open()

    def depends_on(self) -> tuple[str, ...]:
        """Its model."""
        return (self.model,)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair; an answer that cannot be read, such as too long a one, is an error."""
        if not pairs:
            return []
        scorer: Scorer = self._scorer or self._open()
        rows = [_rows(scorer, pair) for pair in pairs]
        distinct = list(dict.fromkeys(row for both in rows if not isinstance(both, Verdict) for row in both))
        scores = dict(zip(distinct, scorer(distinct), strict=True))
        return [
            both
            if isinstance(both, Verdict)
            else Verdict.from_scores(*(scores[row] for row in both), temperature=self.temperature)
            for both in rows
        ]

    def _open(self) -> Scorer:
        from prefloop_plugins.judges.reward_model import load_scorer

        self._scorer = scorer = load_scorer(
            self.model, quantize=self.quantize, batch_size=self.batch_size, max_length=self.max_length
        )
        return scorer


def _messages(prompt: Prompt, answer: Completion) -> list[dict[str, Any]]:
    asked = [dict(message) for message in prompt.messages] or [{"role": "user", "content": prompt.text}]
    return [*asked, {"role": "assistant", "content": answer.text}]


def _rows(scorer: Scorer, pair: Pair) -> list[tuple[int, ...]] | Verdict:
    """Both conversations in tokens, or the verdict where one of them cannot be read."""
    try:
        rows = [scorer.encode(_messages(pair.prompt, one)) for one in (pair.first, pair.second)]
    except ValueError as error:
        return Verdict.error(f"its chat template does not take the conversation: {error}")
    if (longest := max(map(len, rows))) > scorer.max_length:
        return Verdict.error(f"prompt and answer have {longest} tokens, more than {scorer.max_length}")
    return rows
