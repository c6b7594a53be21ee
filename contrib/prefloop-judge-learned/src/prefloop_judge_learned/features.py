"""What the heads see of an answer: hidden states of a frozen language model, and traits of its surface."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from attrs import define, field
from numpy.typing import NDArray

from prefloop import Prompt, UserError, load_model
from prefloop.model.split import SplitModel, inference_attention
from prefloop.types import Message
from prefloop_plugins.judges.question import encode_answered

Array = NDArray[np.float32]
Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]

KEPT = 4096
"""Answers whose features are kept: those of the steps that are judged and not yet learnt from."""

_MARKDOWN = re.compile(r"^\s{0,3}(?:#{1,6} |[-*+] |\d+[.)] |> )|\*\*|__|`", re.MULTILINE)
_COUNTS = (r"\S+", r"\n", r"\?", r"!", r"\d", r"[,;:]", r"[A-Z]")
SURFACE = 2 + len(_COUNTS)
"""How many traits `surface` gives."""


def surface(text: str) -> Array:
    """``log(1 + count)`` of characters, Markdown marks, words, line breaks, question marks, exclamation
    marks, digits, other punctuation and capitals: ``[SURFACE]``.

    Logarithms, so that twice as long counts the same at every length.
    """
    counts = [len(text), len(_MARKDOWN.findall(text)), *(len(re.findall(one, text)) for one in _COUNTS)]
    return np.log1p(np.array(counts, np.float32))


@define(eq=False)
class Reader:
    """Reads answers with a frozen model: the mean of its last hidden states over the answer, ``[H]`` float32.

    An answer has a pass of its own, after its prompt. Rows of a batch would be padded to each other's length
    and rounded by each other's number, and what an answer is worth would depend on its company.
    """

    loaded: Any
    """The `prefloop.model.loading.LoadedModel`, held so that who loads the model next shares its weights."""
    split: SplitModel
    max_length: int
    _known: dict[str, Array] = field(factory=dict, init=False)

    def __call__(self, prompt: Prompt, text: str) -> Array:
        """The features of an answer.

        Raises `ValueError` where the chat template does not take the prompt, for too long a text, and where a
        hidden state is not finite.
        """
        messages = [dict(m) for m in prompt.messages] or [{"role": "user", "content": prompt.text}]
        key = json.dumps([messages, text], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._read(messages, text)
            if len(self._known) > KEPT:
                del self._known[next(iter(self._known))]
        return self._known[key]

    def _read(self, messages: Sequence[Message], text: str) -> Array:
        tokenizer = self.loaded.tokenizer
        asked, answered = encode_answered(tokenizer, messages, text)
        # The end of the turn is read too: its state has seen all of the answer, and an empty one has it.
        answered = (*answered, tokenizer.eos_token_id)
        if (length := len(asked) + len(answered)) > self.max_length:
            raise ValueError(f"prompt and answer have {length} tokens, more than {self.max_length}")
        with inference_attention():
            hidden = self.split.backbone(mx.array([[*asked, *answered]]))[0, len(asked) :]
        mean = np.array(hidden.astype(mx.float32).mean(axis=0))
        if not np.isfinite(mean).all():
            raise ValueError("its hidden states of an answer are not finite")
        return mean


def open_reader(model: str, *, quantize: Quantize, max_length: int) -> Reader:
    """The reader of a model folder, Hub id or embedded model.

    Raises `UserError` where it cannot be loaded, or has no backbone to read hidden states from.
    """
    loaded = load_model(model, quantize=quantize)
    split = SplitModel(loaded.model)
    if not split.is_split:
        raise UserError(f"model '{model}': its hidden states cannot be read; take one of another family.")
    trained = loaded.config.get("max_position_embeddings") or max_length
    return Reader(loaded, split, min(max_length, trained))
