"""Pairs of texts, and backbones whose probabilities are set by hand."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from prefloop import Completion, Pair, Prompt
from support.tiny_tokenizer import PAD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def pair(prompt: str, first: str, second: str) -> Pair:
    return Pair(Prompt((), prompt), Completion((), first), Completion((), second))


class ScriptedModel:
    """A backbone that gives the labels A and B the probabilities that `script` says for a question.

    It says so at the last token of each question only; everywhere else it is sure of neither.
    """

    def __init__(self, tokenizer: Any, script: Callable[[str], tuple[float, float]]) -> None:
        self.tokenizer = tokenizer
        self.script = script
        self.questions: list[str] = []
        self._a, self._b, self._other = (self._id(text) for text in "ABz")
        self._pad = tokenizer.convert_tokens_to_ids(PAD)

    def make_cache(self) -> list[Any]:
        return []

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        rows: list[Any] = tokens.tolist()  # type: ignore[assignment]
        sure_of_neither = mx.array(self._logits(0.0, 0.0))
        logits = mx.zeros((*tokens.shape, len(self.tokenizer))) + sure_of_neither
        for i, row in enumerate(rows):
            self._answer(logits, i, row)
        return logits

    def _answer(self, logits: mx.array, i: int, row: list[int]) -> None:
        asked = list(row)
        while len(asked) > 1 and asked[-1] == self._pad:
            asked.pop()
        question = self.tokenizer.decode(asked)
        if "Which answer is better?" in question:  # else only the shape of the output is wanted
            self.questions.append(question)
            logits[i, len(asked) - 1] = mx.array(self._logits(*self.script(question)))

    def _logits(self, a: float, b: float) -> list[float]:
        given = {self._a: a, self._b: b, self._other: 1 - a - b}
        return [_log(given.get(i, 0.0)) for i in range(len(self.tokenizer))]

    def _id(self, text: str) -> int:
        (one,) = self.tokenizer.encode(text, add_special_tokens=False)
        return int(one)


class Memory:
    """What a `WritingModel` has seen. It cannot be batched, so that rows are decoded one by one."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.state: list[mx.array] = []


class WritingModel:
    """A backbone that goes on writing as `script` says: from the text so far, what may come next.

    Pieces must be single tokens. The last token of each row decides; padding is not part of the text.
    """

    def __init__(self, tokenizer: Any, script: Callable[[str], dict[str, float]]) -> None:
        self.tokenizer = tokenizer
        self.script = script
        self.asked: list[str] = []
        self._pad = tokenizer.convert_tokens_to_ids(PAD)

    def make_cache(self) -> list[Memory]:
        return [Memory()]

    def __call__(self, tokens: mx.array, cache: Any = None) -> mx.array:
        logits = mx.zeros((*tokens.shape, len(self.tokenizer))) - 1e9
        rows: list[Any] = tokens.tolist()  # type: ignore[assignment]
        for i, row in enumerate(rows):
            end = max((j for j, token in enumerate(row) if token != self._pad), default=0)
            seen = row[: end + 1]
            if cache:
                cache[0].tokens += seen
                seen = cache[0].tokens
            text = self.tokenizer.decode(seen)
            self.asked.append(text)
            for piece, probability in self.script(text).items():
                (one,) = self.tokenizer.encode(piece, add_special_tokens=False)
                logits[i, end, int(one)] = math.log(probability)
        return logits


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else (-1e9 if probability == 0 else probability)


def loaded(model: Any, tokenizer: Any, **config: Any) -> SimpleNamespace:
    """What `load_model` returns, as far as a judge looks."""
    return SimpleNamespace(model=model, tokenizer=tokenizer, config=config)


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}


def random_model(kind: str, vocab_size: int, **more: Any) -> Any:
    """A tiny model of mlx-lm's family `kind`, its weights random and large enough to matter."""
    from importlib import import_module

    family = import_module(f"mlx_lm.models.{kind}")
    settings = {**SIZES, "model_type": kind, "vocab_size": vocab_size, **more}
    mx.random.seed(7)
    model = family.Model(family.ModelArgs.from_dict(settings))
    model.update(tree_map(lambda w: w + 0.2 * mx.random.normal(w.shape), model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return model


def save_model(folder: Path, model: Any, kind: str, vocab_size: int) -> None:
    """Write config and weights as a model folder; the tokenizer goes in beside them."""
    config = {**SIZES, "model_type": kind, "vocab_size": vocab_size}
    (folder / "config.json").write_text(json.dumps(config))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def quoted(question: str) -> Sequence[str]:
    """Prompt and answers as a careful reader finds them: between fence lines, the first being the fence."""
    lines = question.split("\n")
    start = lines.index("Prompt:")
    fence = lines[start + 1]
    places = [i for i, line in enumerate(lines) if line == fence]
    assert len(places) == 6, "a quoted text closed its fence"
    return ["\n".join(lines[places[i] + 1 : places[i + 1]]) for i in (0, 2, 4)]
