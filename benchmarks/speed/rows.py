"""What is measured: the sizes of the models and the rows of the table."""

from __future__ import annotations

import re
from typing import Any, Literal

from attrs import asdict, evolve, field, frozen
from benchmarks.speed import english, words

Kind = Literal["same", "newcomer", "twice", "memory", "real"]
Training = Literal["lora", "full"]
Judged = Literal["rule", "llm"]
PROMPT_LENGTH = 40
RUBRICS = {"short": 256, "long": 1000}
"""Tokens of the judge's question besides the prompt and the two answers."""


@frozen
class Size:
    """A Qwen3-type model with tied embeddings."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def name(self) -> str:
        return f"h{self.hidden}l{self.layers}v{self.vocabulary}"

    @property
    def body(self) -> int:
        """Weights of the linear layers of all blocks."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        """Weights of the output head, which are those of the embedding."""
        return self.hidden * self.vocabulary

    @property
    def config(self) -> dict[str, Any]:
        """What stands in ``config.json``."""
        return {
            "model_type": "qwen3",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "rms_norm_eps": 1e-6,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 4096,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        }


SMALL = Size(256, 6, 768, 8, 4, 32, 4096)
SIZES = {
    "S": SMALL,
    "X": evolve(SMALL, vocabulary=151_936),
    "M": Size(1024, 7, 2048, 8, 4, 128, 32_768),
    "SmolLM2": Size(576, 30, 1536, 9, 3, 64, 49_152),
}
"""S has 5.8 M parameters, X its body and a vocabulary of 150 thousand (44 M), M 100 M parameters. Of SmolLM2,
which is a pretrained Llama of 135 M parameters, here stands the shape.
"""


@frozen
class Row:
    """One row of the table: how much work a step is, and how it is set up."""

    model: str
    batch: int
    completion: int
    rubric: str = field(default="short")
    kind: Kind = "same"
    bits: int | None = None
    training: Training = "lora"
    steps: int = 3
    rounds: int = 3
    size: Size = field(init=False)

    @size.default
    def _size(self) -> Size:
        return SIZES[self.model]

    @property
    def name(self) -> str:
        ends = "" if self.kind in ("same", "real") else f"-{self.kind}"
        ends = (f"-{self.bits}bit" if self.bits else "") + ("-full" if self.training == "full" else "") + ends
        return f"{self.model}-b{self.batch}-c{self.completion}-{self.rubric}{ends}"

    @property
    def tolerance(self) -> float:
        """By what share the two sides' tokens may differ.

        mlx-lm-lora decodes completions and encodes them again, which changes the tokens of a real tokenizer,
        and the judges' questions have words of their own.
        """
        return 0.1 if self.kind == "real" else 0.0

    def job(self, seed: int, steps: int, warmup: int) -> dict[str, Any]:
        """The work of one process: what either side needs to know but for its models."""
        return {
            **self._texts(self.batch * (steps + warmup), seed),
            "labels": words.LABELS,
            "rule": self.rubric == "rule",
            "pretrained": self.kind == "real",
            "adapter": {"type": self.training},
            "batch": self.batch,
            "completion": self.completion,
            "steps": steps,
            "warmup": warmup,
            "seed": seed,
        }

    def _texts(self, count: int, seed: int) -> dict[str, Any]:
        if self.kind == "real":
            asked = {"rubric": english.RUBRIC, "question": english.QUESTION}
            return {"prompts": english.prompts(count, seed), **asked}
        fixed = RUBRICS.get(self.rubric) or int(self.rubric)
        asked = {"rubric": words.rubric(fixed), "question": words.question_with_rubric(fixed)}
        return {"prompts": words.prompts(count, PROMPT_LENGTH, seed), **asked}

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "tolerance": self.tolerance, **asdict(self)}


JUDGES: tuple[Judged, ...] = ("rule", "llm")


def real(batch: int, judge: Judged, **others: Any) -> Row:
    """A row on the pretrained model, judged by a rule or by the model itself."""
    settings = {"steps": 2, "rounds": 2, **others}
    return Row("SmolLM2", batch, 48, judge, "real", **settings)


TABLE = (
    Row("S", 4, 64, steps=5, rounds=4),
    Row("S", 4, 64, "long"),
    Row("S", 4, 256, steps=2),
    Row("S", 16, 64, steps=2),
    Row("X", 4, 64, steps=2, rounds=2),
    Row("X", 4, 64, "long", steps=2, rounds=2),
    Row("S", 4, 64, kind="newcomer", steps=1, rounds=2),
    Row("S", 4, 64, kind="twice", steps=5, rounds=4),
    Row("M", 4, 64, kind="memory", steps=1, rounds=1),
    Row("M", 1, 16, "64", kind="memory", bits=4, steps=1, rounds=1),
    *(real(batch, judge) for batch in (1, 4) for judge in JUDGES),
    *(real(batch, "rule", training="full") for batch in (1, 4)),
    real(1, "rule", bits=4, steps=1, rounds=1),
)
"""What is run where no rows are asked for.

In the rows of kind `memory`, policy, reference and judge are one model. The quantized row is short: its
products are slow on CPUs.
"""
LARGE = (
    *(real(16, judge, steps=1) for judge in JUDGES),
    real(16, "rule", training="full", steps=1),
    real(4, "rule", bits=4, steps=1, rounds=1),
)
"""More rows on the pretrained model, which take long."""


def named(name: str) -> Row:
    """The row of a name such as ``X-b16-c256-long``; any batch and completion length will do.

    Raises `ValueError` where the name is none.
    """
    for row in (*TABLE, *LARGE):
        if row.name == name:
            return row
    found = re.fullmatch(r"([A-Z])-b(\d+)-c(\d+)-(short|long)(?:-(newcomer|twice))?", name)
    if not found or found[1] not in SIZES:
        known = ", ".join(row.name for row in (*TABLE, *LARGE))
        raise ValueError(f"'{name}' is no row. Rows are called like X-b16-c256-long; the table has {known}")
    model, batch, completion, rubric = found.groups()[:4]
    kind: Any = found[5] or "same"
    return Row(model, int(batch), int(completion), rubric, kind, steps=2, rounds=2)
