"""Every setting that is a plain value. These classes are sections of the configuration file: names, types,
defaults, validators and the help text of each field. `prefloop.config.Config` is the whole file.

A class attribute `shorthand` names the field that a bare value sets: ``model: Qwen/Qwen3-0.6B``.
"""

# No `from __future__ import annotations` here: the annotations are read at run time.
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from attrs import field, frozen
from attrs.validators import and_, ge, gt, le, lt, optional

from prefloop.deprecated import with_former_names
from prefloop.types import Ties

Quantize = Literal["none", "4bit", "6bit", "8bit", "mxfp4"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
AdapterType = Literal["lora", "dora", "full"]
TooLong = Literal["drop", "truncate_left"]
DEFAULT_ITERS = 1000


def about(help: str, **more: Any) -> dict[str, Any]:
    """The metadata of a field. `help` is what `prefloop config init` says about it; `empty` is the value
    that null or an empty text stands for; ``option=False`` keeps the field out of the file. `formerly` is the
    name that the field had, or several, and `former_values` goes from values that it took to present ones:
    both still work, with a warning.
    """
    return {"help": help, **more}


def not_empty(_: object, __: object, value: str) -> None:
    """Raises `ValueError` for an empty text."""
    if not value.strip():
        raise ValueError("must not be empty.")


def _positive_or_none(_: object, __: object, value: float | None) -> None:
    if value is not None and value <= 0:
        raise ValueError(f"must be > 0 or null, not {value}.")


def _at_least_one(special: int | None, meaning: str) -> Callable[[object, object, int | None], None]:
    """A validator of a count that may also be `special`, which stands for `meaning`."""

    def check(_: object, __: object, value: int | None) -> None:
        if value != special and (value is None or value < 1):
            shown = "null" if special is None else special
            raise ValueError(f"must be at least 1, or {shown} for {meaning}, not {value}.")

    return check


def _as_dict(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(options)


@frozen
class ModelConfig:
    """The model that is trained."""

    shorthand: ClassVar[str] = "path"

    path: str = field(validator=not_empty, metadata=about("Hub id or folder of the model that is trained."))
    quantize: Quantize = field(
        default="none", metadata=about("Quantize the frozen weights when the model is loaded.")
    )
    dtype: Dtype = field(
        default="auto",
        metadata=about("Number type of the weights; auto is float32 on the CPU and as stored elsewhere."),
    )
    trust_remote_code: bool = field(
        default=False, metadata=about("Run tokenizer code that comes with the model.")
    )


@frozen
class AdapterConfig:
    """What is trained: low-rank adapters, or every weight."""

    type: AdapterType = field(
        default="lora", metadata=about("Train LoRA adapters, DoRA adapters or the full weights.")
    )
    rank: int = field(default=8, validator=ge(1), metadata=about("Rank of the adapters."))
    scale: float = field(default=20.0, validator=gt(0), metadata=about("Factor on the adapters' output."))
    dropout: float = field(
        default=0.0, validator=and_(ge(0), lt(1)), metadata=about("Dropout in front of the adapters.")
    )
    layers: int = field(
        default=16,
        validator=_at_least_one(-1, "all layers"),
        metadata=about("How many of the last layers are trained; -1 is all."),
    )
    keys: tuple[str, ...] | None = field(
        default=None,
        metadata=about(
            "Names of the linear layers that get adapters, such as self_attn.q_proj; null is the usual ones."
        ),
    )
    resume_from: str | None = field(
        default=None,
        validator=optional(not_empty),
        metadata=about("Folder or file of adapters to start from."),
    )


@with_former_names
@frozen
class PromptsConfig:
    """The prompts that completions are sampled for."""

    shorthand: ClassVar[str] = "path"

    path: str = field(
        validator=not_empty,
        metadata=about("Hub id, folder, or JSONL, JSON, CSV or Parquet file of the prompts."),
    )
    name: str | None = field(
        default=None,
        validator=optional(not_empty),
        metadata=about("Configuration of a Hub data set that has several."),
    )
    split: str = field(default="train", validator=not_empty, metadata=about("Split of the data set."))
    column: str | None = field(
        default=None,
        validator=optional(not_empty),
        metadata=about("Column with the prompts, as text or chat messages; null is prompt, else messages."),
    )
    system: str | None = field(default=None, metadata=about("System prompt put before every prompt."))
    thinking: bool = field(
        default=False, metadata=about("Let a model think where its chat template has a switch for it.")
    )
    max_length: int = field(default=2048, validator=ge(1), metadata=about("Longest prompt, in tokens."))
    too_long: TooLong = field(
        default="drop",
        metadata=about(
            "Drop a prompt that is too long, or truncate it from the left.",
            former_values={"left": "truncate_left"},
        ),
    )
    limit: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata=about("Use only the first so many prompts; null is all."),
    )


@frozen
class OptimizerConfig:
    """An optimizer of `mlx.optimizers` and its options."""

    shorthand: ClassVar[str] = "use"

    use: str = field(
        default="adamw", validator=not_empty, metadata=about("Class of mlx.optimizers, in lower case.")
    )
    options: Mapping[str, Any] = field(
        factory=dict,
        converter=_as_dict,
        hash=False,
        metadata=about("Options of that class, written beside use."),
    )


@frozen
class ScheduleConfig:
    """A learning-rate schedule of `mlx.optimizers.schedulers`, after a linear warm-up."""

    shorthand: ClassVar[str] = "use"

    use: str = field(
        validator=not_empty,
        metadata=about("Schedule of mlx.optimizers, or constant; it starts from training.learning_rate."),
    )
    warmup: int = field(
        default=0, validator=ge(0), metadata=about("Steps of linear warm-up before the schedule.")
    )
    warmup_init: float = field(
        default=0.0, validator=ge(0), metadata=about("Learning rate at which the warm-up starts.")
    )
    options: Mapping[str, Any] = field(
        factory=dict,
        converter=_as_dict,
        hash=False,
        metadata=about("Options of that schedule, written beside use."),
    )


@frozen
class TrainingConfig:
    """How long and how fast the policy learns. A step is one update by the optimizer."""

    batch_size: int = field(default=4, validator=ge(1), metadata=about("Prompts per batch."))
    gradient_accumulation: int = field(
        default=1,
        validator=ge(1),
        metadata=about("Batches per step: a step samples and judges batch_size times this many prompts."),
    )
    iters: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata=about(f"Steps of the run; null is {DEFAULT_ITERS} unless epochs is given."),
    )
    epochs: float | None = field(
        default=None, validator=optional(gt(0)), metadata=about("Passes over the prompts, instead of iters.")
    )
    learning_rate: float = field(
        default=1e-5, validator=gt(0), metadata=about("Learning rate at the end of the warm-up.")
    )
    optimizer: OptimizerConfig = field(
        factory=OptimizerConfig,
        metadata=about(
            "Any optimizer of mlx.optimizers, as a name or as use: NAME with its options beside it."
        ),
    )
    schedule: ScheduleConfig | None = field(
        default=None,
        metadata=about(
            "Any schedule of mlx.optimizers, such as {use: cosine_decay, warmup: 100, end: 0.0}; its length "
            "is the steps that remain after the warm-up unless given; null keeps the learning rate."
        ),
    )
    max_grad_norm: float | None = field(
        default=1.0,
        validator=_positive_or_none,
        metadata=about("Norm that gradients are clipped to; null leaves them alone."),
    )
    gradient_checkpointing: bool = field(
        default=False, metadata=about("Recompute activations to save memory.")
    )
    seed: int = field(
        default=0, validator=and_(ge(0), lt(2**32)), metadata=about("Seed of everything that is random.")
    )
    report_every: int = field(default=10, validator=ge(1), metadata=about("Steps between reports."))
    evaluate_every: int = field(
        default=0, validator=ge(0), metadata=about("Steps between evaluations; 0 is only before and after.")
    )
    save_every: int = field(
        default=100, validator=ge(0), metadata=about("Steps between checkpoints; 0 is only at the end.")
    )
    keep_last: int | None = field(
        default=2,
        validator=_at_least_one(None, "all"),
        metadata=about("How many of the newest checkpoints are kept; null is all."),
    )
    keep_best: int = field(
        default=1,
        validator=ge(0),
        metadata=about("How many checkpoints with the highest win rate are kept besides the newest."),
    )
    early_stop: int | None = field(
        default=None,
        validator=_at_least_one(None, "never"),
        metadata=about("Evaluations without a better win rate after which the run ends; null is never."),
    )
    min_delta: float = field(
        default=0.0,
        validator=and_(ge(0), lt(1)),
        metadata=about("A win rate is better for early_stop where it is more than this above the best."),
    )
    load_best: bool = field(
        default=False,
        metadata=about("End with the adapters of the best evaluation instead of those of the last step."),
    )
    max_skipped: int = field(
        default=5,
        validator=ge(1),
        metadata=about("Steps in a row with an infinite or undefined gradient after which the run stops."),
    )
    memory_limit_gb: float | None = field(
        default=None,
        validator=optional(ge(0)),
        metadata=about("Memory the run may use in gigabytes; null is what the machine has, 0 is any."),
    )
    micro_batch_size: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata=about(
            "Pairs of a batch that are scored at once; null is as many as fit the memory. The gradient is "
            "the same."
        ),
    )

    def __attrs_post_init__(self) -> None:
        if self.iters is not None and self.epochs is not None:
            raise ValueError("iters and epochs exclude each other: give one of them.")


@with_former_names
@frozen
class JudgingConfig:
    """What becomes of ties, and when a run stops because its judge is of no use."""

    ties: Ties = field(
        default="drop",
        metadata=about(
            "What a tie teaches: drop is nothing; half is both labels at half weight; keep is a probability "
            "of one half, for a loss with soft labels."
        ),
    )
    window: int = field(
        default=100,
        validator=ge(0),
        metadata=about("How many of the latest verdicts are looked at, once there are so many; 0 is none."),
    )
    max_errors: float = field(
        default=0.5,
        validator=and_(ge(0), le(1)),
        metadata=about("The run stops where a larger share of them than this are errors."),
    )
    max_same_outcome: float = field(
        default=0.95,
        validator=and_(ge(0), le(1)),
        metadata=about(
            "The run stops where a larger share of them than this are ties, or went to whichever answer was "
            "shown first, or second.",
            formerly="max_one_kind",
        ),
    )


@frozen
class OutputConfig:
    """Where the run is written."""

    shorthand: ClassVar[str] = "path"

    path: str | None = field(
        default=None,
        validator=optional(not_empty),
        metadata=about("Folder of the run; null is runs/ALGORITHM-MODEL-NUMBER."),
    )
    report: bool = field(default=True, metadata=about("Write report.html at the end of the run."))


@frozen
class PluginsConfig:
    """Which plugins take part."""

    disable: tuple[str, ...] = field(default=(), metadata=about("Distributions whose plugins are left out."))
