"""Every setting that is a plain value. These classes are sections of the configuration file: names, types,
defaults, validators and the help text of each field. `prefloop.config.Config` is the whole file.

A class attribute `shorthand` names the field that a bare value sets: ``model: Qwen/Qwen3-0.6B``.
"""

# No `from __future__ import annotations` here: the annotations are read at run time.
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from attrs import Factory, field, frozen
from attrs.validators import ge, gt, le, lt, optional

from prefloop.deprecated import with_former_names
from prefloop.types import Ties

Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
AdapterType = Literal["lora", "dora", "full"]
Thought = Literal["learn", "mask"]
JudgedThought = Literal["hide", "show"]
TooLong = Literal["drop", "truncate_left"]
JudgedOn = Literal["auto", "every", "first"]
DEFAULT_ITERS = 1000

Check = Callable[[Any, Any, Any], None]
"""A validator as attrs calls it: with the settings, the field and the value."""


def about(help: str, **more: Any) -> dict[str, Any]:
    """The metadata of a field. `help` is what `prefloop config init` says about it; `empty` is the value
    that null or an empty text stands for; ``option=False`` keeps the field out of the file. `formerly` is the
    name that the field had, or several, and `former_values` goes from values that it took to present ones:
    both still work, with a warning.
    """
    return {"help": help, **more}


def setting(default: Any, help: str, *checks: Check, **more: Any) -> Any:
    """A field that need not be given, its value checked by each of `checks`. The rest is for `about`."""
    return field(default=default, validator=checks or None, metadata=about(help, **more))


def not_empty(_: object, __: object, value: str) -> None:
    """Raises `ValueError` for an empty text."""
    if not value.strip():
        raise ValueError("must not be empty.")


def _at_least_one(special: int | None, meaning: str) -> Check:
    """A validator of a count that may also be `special`, which stands for `meaning`."""

    def check(_: object, __: object, value: int | None) -> None:
        if value != special and (value is None or value < 1):
            shown = "null" if special is None else special
            raise ValueError(f"must be at least 1, or {shown} for {meaning}, not {value}.")

    return check


def _options_beside_use(help: str) -> Any:
    """A field for the options of what `use` names, which have no fields of their own."""
    return field(factory=dict, converter=dict, hash=False, metadata=about(help))


@frozen
class ModelConfig:
    """The model that is trained."""

    shorthand: ClassVar[str] = "path"

    path: str = field(validator=not_empty, metadata=about("Hub id or folder of the model that is trained."))
    quantize: Quantize = setting("none", "Quantize the frozen weights when the model is loaded.")
    dtype: Dtype = setting(
        "auto", "Number type of the weights; auto is float32 on the CPU and as stored elsewhere."
    )
    trust_remote_code: bool = setting(False, "Run tokenizer code that comes with the model.")


@frozen
class AdapterConfig:
    """What is trained: low-rank adapters, or every weight."""

    type: AdapterType = setting("lora", "Train LoRA adapters, DoRA adapters or the full weights.")
    rank: int = setting(8, "Rank of the adapters.", ge(1))
    scale: float = setting(20.0, "Factor on the adapters' output.", gt(0))
    dropout: float = setting(0.0, "Dropout in front of the adapters.", ge(0), lt(1))
    layers: int = setting(
        16, "How many of the last layers are trained; -1 is all.", _at_least_one(-1, "all layers")
    )
    keys: tuple[str, ...] | None = setting(
        None,
        "Names of the linear layers that get adapters, such as self_attn.q_proj; null is the usual ones.",
    )
    resume_from: str | None = setting(None, "Folder or file of adapters to start from.", optional(not_empty))


@with_former_names
@frozen
class PromptsConfig:
    """The prompts that completions are sampled for."""

    shorthand: ClassVar[str] = "path"

    path: str = field(
        validator=not_empty,
        metadata=about("Hub id, folder, or JSONL, JSON, CSV or Parquet file of the prompts."),
    )
    name: str | None = setting(None, "Configuration of a Hub data set that has several.", optional(not_empty))
    split: str = setting("train", "Split of the data set.", not_empty)
    column: str | None = setting(
        None,
        "Column with the prompts, as text or chat messages; null is prompt, else messages.",
        optional(not_empty),
    )
    system: str | None = setting(None, "System prompt put before every prompt.")
    thinking: bool = setting(False, "Let a model think where its chat template has a switch for it.")
    max_length: int = setting(2048, "Longest prompt, in tokens.", ge(1))
    too_long: TooLong = setting(
        "drop",
        "Drop a prompt that is too long, or truncate it from the left.",
        former_values={"left": "truncate_left"},
    )
    limit: int | None = setting(None, "Use only the first so many prompts; null is all.", optional(ge(1)))


@frozen
class OptimizerConfig:
    """An optimizer of `mlx.optimizers` and its options."""

    shorthand: ClassVar[str] = "use"

    use: str = setting("adamw", "Class of mlx.optimizers, in lower case.", not_empty)
    options: Mapping[str, Any] = _options_beside_use("Options of that class, written beside use.")


@frozen
class ScheduleConfig:
    """A learning-rate schedule of `mlx.optimizers.schedulers`, after a linear warm-up."""

    shorthand: ClassVar[str] = "use"

    use: str = field(
        validator=not_empty,
        metadata=about("Schedule of mlx.optimizers, or constant; it starts from training.learning_rate."),
    )
    warmup: int = setting(0, "Steps of linear warm-up before the schedule.", ge(0))
    warmup_init: float = setting(0.0, "Learning rate at which the warm-up starts.", ge(0))
    options: Mapping[str, Any] = _options_beside_use("Options of that schedule, written beside use.")


@frozen
class TrainingConfig:
    """How long and how fast the policy learns. A step is one update by the optimizer."""

    batch_size: int = setting(4, "Prompts per batch.", ge(1))
    gradient_accumulation: int = setting(
        1, "Batches per step: a step samples and judges batch_size times this many prompts.", ge(1)
    )
    rollout: int = setting(
        1,
        "Steps whose prompts are sampled and judged together, from the policy as it is before the first of "
        "them: larger pools are faster, and the pairs of the last of them are so many steps old, less one.",
        ge(1),
    )
    iters: int | None = setting(
        None, f"Steps of the run; null is {DEFAULT_ITERS} unless epochs is given.", optional(ge(1))
    )
    epochs: float | None = setting(
        None, "Passes over the prompts, instead of iters.", optional([gt(0), le(1e9)])
    )
    learning_rate: float = setting(1e-5, "Learning rate at the end of the warm-up.", gt(0))
    optimizer: OptimizerConfig = setting(
        Factory(OptimizerConfig),
        "Any optimizer of mlx.optimizers, as a name or as use: NAME with its options beside it.",
    )
    schedule: ScheduleConfig | None = setting(
        None,
        "Any schedule of mlx.optimizers, such as {use: cosine_decay, warmup: 100, end: 0.0}; its length "
        "is the steps that remain after the warm-up unless given; null keeps the learning rate.",
    )
    max_grad_norm: float | None = setting(
        1.0, "Norm that gradients are clipped to; null leaves them alone.", optional(gt(0))
    )
    gradient_checkpointing: bool = setting(False, "Recompute activations to save memory.")
    seed: int = setting(0, "Seed of everything that is random.", ge(0), lt(2**32))
    report_every: int = setting(10, "Steps between reports.", ge(1))
    evaluate_every: int = setting(0, "Steps between evaluations; 0 is only before and after.", ge(0))
    save_every: int = setting(100, "Steps between checkpoints; 0 is only at the end.", ge(0))
    keep_last: int | None = setting(
        2, "How many of the newest checkpoints are kept; null is all.", _at_least_one(None, "all")
    )
    keep_best: int = setting(
        1, "How many checkpoints with the best evaluations are kept besides the newest.", ge(0)
    )
    keep_spread: int = setting(2, "How many checkpoints are kept besides, spread evenly over the run.", ge(0))
    early_stop: int | None = setting(
        None,
        "Evaluations without a better win rate after which the run ends; null is never.",
        _at_least_one(None, "never"),
    )
    min_delta: float = setting(
        0.0, "A win rate is better for early_stop where it is more than this above the best.", ge(0), lt(1)
    )
    load_best: bool = setting(
        False,
        "End with the adapters of the best evaluation instead of those of the last step. One in which less "
        "than half of the start's distinct bigrams are left has collapsed, and is not the best.",
    )
    max_kl: float | None = setting(
        None,
        "The run stops where the KL divergence from the reference, in nats a completion and as the mean of "
        "the last 10 steps, is more than this; null is never.",
        optional(gt(0)),
    )
    max_skipped: int = setting(
        5, "Steps in a row with an infinite or undefined gradient after which the run stops.", ge(1)
    )
    memory_limit_gb: float | None = setting(
        None,
        "Memory the run may use in gigabytes; null is what the machine has, 0 is any. A number is held by "
        "what mlx is measured to take: fewer pairs are scored at once before it is exceeded.",
        optional(ge(0)),
    )
    micro_batch_size: int | None = setting(
        None,
        "Pairs of a batch that are scored at once; null is as many as fit the memory. The gradient is "
        "the same, but for the masks of adapter.dropout.",
        optional(ge(1)),
    )

    thought: Thought = setting(
        "learn",
        "What the loss counts of a thinking model's completion: thought and answer (learn), or the answer "
        "alone (mask).",
    )

    def __attrs_post_init__(self) -> None:
        if self.iters is not None and self.epochs is not None:
            raise ValueError("iters and epochs exclude each other: give one of them.")


@with_former_names
@frozen
class JudgingConfig:
    """What becomes of ties, and when a run stops because its judge is of no use."""

    ties: Ties = setting(
        "drop",
        "What a tie teaches: drop is nothing; half is both labels at half weight; keep is a probability "
        "of one half, for a loss with soft labels.",
    )
    window: int = setting(
        100, "How many of the latest verdicts are looked at; 0 is none, and the judge is not watched.", ge(0)
    )
    max_errors: float = setting(
        0.5, "The run stops where a larger share of them than this are errors.", ge(0), le(1)
    )
    max_same_outcome: float = setting(
        0.95,
        "The run stops where a larger share of them than this are ties, are about two equal answers, or go "
        "by which answer was shown first.",
        ge(0),
        le(1),
        formerly="max_one_kind",
    )
    max_unlabelled: int | None = setting(
        50,
        "Steps in a row without a label after which the run stops; null is never.",
        _at_least_one(None, "never"),
    )
    timeout: float | None = setting(
        3600.0,
        "Seconds that a verdict may take, after which the run stops as failed; a batch whose verdicts come "
        "together may take so many for each. null is for ever. A person is not hurried.",
        optional(gt(0)),
    )
    thought: JudgedThought = setting(
        "hide",
        "What judges read of a thinking model's completion: the answer alone (hide), or the thought before "
        "it too (show).",
    )
    on: JudgedOn = setting(
        "auto",
        "Where several ranks share the run, which of them ask the judge: every rank about its share of the "
        "pairs, or the first one about all; auto is the first for a person, a server and what remembers "
        "something, else every.",
    )


@frozen
class OutputConfig:
    """Where the run is written."""

    shorthand: ClassVar[str] = "path"

    path: str | None = setting(
        None, "Folder of the run; null is runs/ALGORITHM-MODEL-NUMBER.", optional(not_empty)
    )
    report: bool = setting(True, "Write report.html at the end of the run.")


@frozen
class PluginsConfig:
    """Which plugins take part."""

    disable: tuple[str, ...] = setting((), "Distributions whose plugins are left out.")
    files: tuple[str, ...] = setting(
        (), "Python files with components of one's own, such as my_judge.py; each is a plugin."
    )
