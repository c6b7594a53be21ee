"""`Config`, the whole configuration: the sections of `prefloop.settings`, and the components of a run."""

# No `from __future__ import annotations` here: the annotations are read at run time.
from collections.abc import Mapping

from attrs import field, frozen
from attrs.validators import ge, optional

from prefloop.components import Algorithm, Bonus, Judge, Loss, Observer, Sampler
from prefloop.registry import Origin
from prefloop.settings import (
    AdapterConfig,
    JudgingConfig,
    ModelConfig,
    OutputConfig,
    PluginsConfig,
    PromptsConfig,
    TrainingConfig,
    about,
    not_empty,
)


@frozen
class EvaluationConfig:
    """How the policy is compared with the start of the run."""

    prompts: str | None = field(
        default=None,
        validator=optional(not_empty),
        metadata=about(
            "Hub id, folder or file of the prompts; null holds some out from the training prompts."
        ),
    )
    held_out: int = field(
        default=64,
        validator=ge(0),
        metadata=about(
            "Training prompts to hold out, at most a tenth of them; 0 is none, and no evaluation."
        ),
    )
    judge: Judge | None = field(
        default=None, metadata=about("The judge of the evaluation; null is the one of the run.")
    )
    temperature: float | None = field(
        default=None,
        validator=optional(ge(0)),
        metadata=about("Sampling temperature; null is the sampler's."),
    )
    answer: str | None = field(
        default=None,
        validator=optional(not_empty),
        metadata=about(
            "Column with a text that a right completion contains; the share is reported as accuracy."
        ),
    )


@frozen(kw_only=True)
class Config:
    """A whole run. `load_config` makes one from a file; where none is given there, `sampler`, `judge`,
    `loss` and `bonuses` come from the algorithm.
    """

    model: ModelConfig = field(metadata=about("The model that is trained: a Hub id or folder, or a mapping."))
    adapter: AdapterConfig = field(factory=AdapterConfig, metadata=about("What is trained."))
    reference: str = field(
        default="base",
        metadata=about(
            "The model that the policy is kept near: base (the model without adapters), start "
            "(the policy as the run began), a Hub id or a folder.",
            empty="base",
        ),
    )
    prompts: PromptsConfig = field(metadata=about("The prompts: a Hub id, folder or file, or a mapping."))
    algorithm: Algorithm = field(
        metadata=about("A preset for sampler, judge, loss and bonuses; what is given wins.")
    )
    sampler: Sampler = field(metadata=about("Draws two completions for each prompt."))
    judge: Judge = field(metadata=about("Says which completion is better: a name, a model, or a mapping."))
    loss: Loss = field(metadata=about("The preference loss."))
    bonuses: tuple[Bonus, ...] = field(
        default=(), metadata=about("Terms that are added up and subtracted from the loss.")
    )
    observers: tuple[Observer, ...] = field(
        default=(), metadata=about("More observers of the run, such as trackers.")
    )
    training: TrainingConfig = field(
        factory=TrainingConfig, metadata=about("How long and how fast the policy learns.")
    )
    judging: JudgingConfig = field(
        factory=JudgingConfig, metadata=about("What becomes of ties, and when a run stops over its judge.")
    )
    evaluation: EvaluationConfig = field(
        factory=EvaluationConfig, metadata=about("How the policy is compared with the start of the run.")
    )
    output: OutputConfig = field(
        factory=OutputConfig, metadata=about("Where the run is written: a folder, or a mapping.")
    )
    plugins: PluginsConfig = field(factory=PluginsConfig, metadata=about("Which plugins take part."))
    origins: Mapping[type, Origin] = field(
        factory=dict,
        eq=False,
        repr=False,
        metadata=about("Where the classes of its components were found when it was loaded.", option=False),
    )
