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
    "Qwen3": Size(1024, 28, 3072, 16, 8, 128, 151_936),
}
"""S has 5.8 M parameters, X its body and a vocabulary of 150 thousand (44 M), M 100 M parameters. Of SmolLM2,
which is a pretrained Llama of 135 M parameters, here stands the shape. Qwen3 is as large as Qwen3-0.6B, with
random weights.
"""
OTHERS = ("mlx-lm-lora", "TRL")
"""The sides beside prefloop's own."""


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
    warmup: int = 1
    """Steps that are not timed. None where a step is so long that its start does not show."""
    rollout: int = 1
    """Above 1, prefloop also takes so many steps from one pool, as a side of its own."""
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

    @property
    def timed(self) -> bool:
        """Whether its time is compared, and not only its memory."""
        return self.kind != "memory"

    def missing(self) -> dict[str, str]:
        """Why another side cannot take part, where it cannot."""
        if self.kind not in ("real", "memory"):
            return {"TRL": "has no part in rows of this kind"}
        if self.rubric != "rule":
            return {"TRL": "has no pairwise judge"}
        return {"TRL": "reads no base that mlx has quantized"} if self.bits else {}

    def job(self, seed: int, steps: int, warmup: int) -> dict[str, Any]:
        """The work of one process: what either side needs to know but for its models."""
        return {
            # Enough for whole rollouts, so that every side draws its prompts in one order.
            **self._texts(self.batch * (warmup + max(steps, self.rollout)), seed),
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
        prompts = words.prompts(count, PROMPT_LENGTH, seed)
        if self.rubric == "rule":  # nothing is asked
            return {"prompts": prompts, "rubric": "", "question": ""}
        fixed = RUBRICS.get(self.rubric) or int(self.rubric)
        asked = {"rubric": words.rubric(fixed), "question": words.question_with_rubric(fixed)}
        return {"prompts": prompts, **asked}

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "tolerance": self.tolerance, **asdict(self)}


def real(batch: int, judge: Judged, completion: int = 48, **others: Any) -> Row:
    """A row on the pretrained model, judged by a rule or by the model itself."""
    settings = {"steps": 2, "rounds": 2, **others}
    return Row("SmolLM2", batch, completion, judge, "real", **settings)


def long(batch: int, judge: Judged, completion: int = 48, **others: Any) -> Row:
    """The same where a step takes long: one step in each of two rounds, without a warm-up."""
    return real(batch, judge, completion, **{"steps": 1, "warmup": 0, **others})


REAL = (
    real(1, "rule", rollout=16, rounds=3),
    real(4, "rule", steps=1, rollout=4),
    long(16, "rule"),
    long(1, "rule", 256, rollout=16),
    long(4, "rule", 256),
    real(1, "llm", rollout=16),
    real(4, "llm", steps=1, rollout=4),
    real(1, "rule", training="full", rollout=4),
    long(4, "rule", training="full", rollout=4),
    long(1, "rule", bits=4, rounds=1),
)
"""On the pretrained model: over an hour on two idle cores, where products with a quantized base are slow.

With adapters, a rollout is a pool of 16 pairs.
"""
MEMORY = tuple(
    Row(model, batch, completion, rubric, "memory", bits, steps=1, rounds=1, warmup=0)
    for model, batch, completion, rubric, bits in (
        ("M", 4, 64, "short", None),
        ("M", 1, 16, "64", 4),
        ("Qwen3", 1, 48, "rule", None),
        ("Qwen3", 4, 48, "rule", None),
    )
)
"""Policy, reference and judge are one model, which is too random to judge."""
SYNTHETIC = (
    Row("S", 4, 64, steps=5, rounds=4),
    Row("S", 4, 64, "long"),
    Row("S", 4, 256, steps=2),
    Row("S", 16, 64, steps=2),
    Row("X", 4, 64, steps=2, rounds=2),
    Row("X", 4, 64, "long", steps=2, rounds=2),
    Row("S", 4, 64, kind="newcomer", steps=1, rounds=2),
    Row("S", 4, 64, kind="twice", steps=5, rounds=4),
)
"""On models with random weights, where both sides do the same work to the token."""
TABLE = (*SYNTHETIC, *MEMORY, *REAL)
"""What is run where no rows are asked for."""
LARGE = (
    long(16, "llm"),
    long(16, "rule", 256),
    long(16, "rule", training="full"),
    long(4, "rule", bits=4, rounds=1),
)
"""More rows on the pretrained model, which take long."""
EVERY = (*TABLE, *LARGE)
SHARED = (
    real(1, "rule", rollout=16, rounds=1),
    real(4, "rule", steps=1, rounds=1),
    Row("S", 4, 64, steps=3, rounds=1),
)
"""What is measured for an issue: a few minutes on two cores."""
GROUPS = {"real": REAL, "synthetic": SYNTHETIC, "memory": MEMORY, "large": LARGE}
"""Rows that are asked for by one name."""


def named(name: str) -> Row:
    """The row of a name such as ``X-b16-c256-long``; any batch and completion length will do.

    Raises `ValueError` where the name is none.
    """
    for row in EVERY:
        if row.name == name:
            return row
    found = re.fullmatch(r"([A-Z])-b(\d+)-c(\d+)-(short|long)(?:-(newcomer|twice))?", name)
    if not found or found[1] not in SIZES:
        known = ", ".join(row.name for row in EVERY)
        raise ValueError(f"'{name}' is no row. Rows are called like X-b16-c256-long; the table has {known}")
    model, batch, completion, rubric = found.groups()[:4]
    kind: Any = found[5] or "same"
    return Row(model, int(batch), int(completion), rubric, kind, steps=2, rounds=2)
