"""`Config`, the whole configuration, and what must hold between its settings.

Its sections are those of `prefloop.settings`, but for the ones that hold components.
"""

# No `from __future__ import annotations` here: the annotations are read at run time.
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from attrs import Factory, field, frozen
from attrs.validators import ge, gt, optional

from prefloop.components import (
    Algorithm,
    BaseBonus,
    BaseLoss,
    BaseSampler,
    Bonus,
    Judge,
    Loss,
    Observer,
    Sampler,
    adapt,
)
from prefloop.deprecated import with_former_names
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, Origin, Registry, origin_of
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
    setting,
)
from prefloop.types import Need


def _is_name(_: object, __: object, value: str) -> None:
    if not re.fullmatch(r"[\w.-]+", value):
        raise ValueError(f"takes letters, digits, '-', '_' and '.', not {value!r}.")


EvaluationJudge = Literal["training"] | Judge
"""One of the judges of an evaluation; ``training`` is the run's own."""


@with_former_names
@frozen
class SourceConfig(PromptsConfig):
    """One source of a mixture: what a single set of prompts has, and its share and its judge."""

    shorthand: ClassVar[str] = "path"

    weight: float = setting(
        1.0, "How often its prompts are drawn, in proportion to the weights of all sources.", gt(0)
    )
    judge: Judge | None = setting(None, "The judge of its prompts; null is the one of the run.")
    source: str | None = setting(
        None,
        "Its name in metrics; null is that of its file or folder, without an ending.",
        optional(_is_name),
    )
    evaluation: str | None = setting(
        None,
        "Hub id, folder or file of its prompts in evaluations, read as its own are; null holds some of its "
        "own out.",
        optional(not_empty),
    )

    @property
    def called(self) -> str:
        """Its name in metrics."""
        return self.source or re.sub(r"[^\w.-]+", "-", Path(self.path.rpartition(":")[2]).stem) or "prompts"


def _some_sources(_: object, __: object, value: Any) -> None:
    if isinstance(value, tuple) and not value:
        raise ValueError("must name a source of prompts: a Hub id, a folder or a file.")


def _some_judges(_: object, __: object, value: Any) -> None:
    if isinstance(value, tuple) and not value:
        raise ValueError("must name a judge; null is the one of the run.")


@with_former_names
@frozen
class EvaluationConfig:
    """How the policy is compared with the start of the run."""

    prompts: str | None = setting(
        None,
        "Hub id, folder or file of the prompts; null holds some out from the training prompts.",
        optional(not_empty),
    )
    held_out: int = setting(
        64, "Training prompts to hold out, at most a tenth of them; 0 is none, and no evaluation.", ge(0)
    )
    judge: EvaluationJudge | tuple[EvaluationJudge, ...] | None = setting(
        None,
        "The judge of the evaluation, or a list of several that are asked about the same answers; null and "
        "training are the one of the run.",
        _some_judges,
    )
    temperature: float | None = setting(None, "Sampling temperature; null is the sampler's.", optional(ge(0)))
    answer_column: str | None = setting(
        None,
        "Column with a text that a right completion contains; the share is reported as accuracy.",
        optional(not_empty),
        formerly="answer",
    )

    @property
    def judges(self) -> dict[str, Judge | Literal["training"]]:
        """The judges that are given, each by its key path, in their order."""
        if self.judge is None:
            return {}
        if not isinstance(self.judge, tuple):
            return {"evaluation.judge": self.judge}
        return {f"evaluation.judge.{i}": judge for i, judge in enumerate(self.judge)}

    @property
    def named_judges(self) -> dict[str, Judge]:
        """Those of them that are not ``training``."""
        return {key: judge for key, judge in self.judges.items() if not isinstance(judge, str)}


@frozen(kw_only=True)
class Config:
    """A whole run. `load_config` makes one from a file; where none is given there, `sampler`, `judge`,
    `loss` and `bonuses` come from the algorithm.
    """

    model: ModelConfig = field(metadata=about("The model that is trained: a Hub id or folder, or a mapping."))
    adapter: AdapterConfig = setting(Factory(AdapterConfig), "What is trained.")
    reference: str = setting(
        "base",
        "The model that the policy is kept near: base (the model without adapters), start "
        "(the policy as the run began), a Hub id or a folder.",
        empty="base",
    )
    prompts: PromptsConfig | tuple[SourceConfig, ...] = field(
        validator=_some_sources,
        metadata=about("The prompts: a Hub id, folder or file, a mapping, or a list to mix."),
    )
    algorithm: Algorithm = field(
        metadata=about("A preset for sampler, judge, loss and bonuses; what is given wins.")
    )
    sampler: Sampler = field(metadata=about("Draws two completions for each prompt."))
    judge: Judge = field(metadata=about("Says which completion is better: a name, a model, or a mapping."))
    loss: Loss = field(metadata=about("The preference loss."))
    bonuses: tuple[Bonus, ...] = setting((), "Terms that are added up and subtracted from the loss.")
    observers: tuple[Observer, ...] = setting((), "More observers of the run, such as trackers.")
    training: TrainingConfig = setting(Factory(TrainingConfig), "How long and how fast the policy learns.")
    judging: JudgingConfig = setting(
        Factory(JudgingConfig), "What becomes of ties, and when a run stops over its judge."
    )
    evaluation: EvaluationConfig = setting(
        Factory(EvaluationConfig), "How the policy is compared with the start of the run."
    )
    output: OutputConfig = setting(Factory(OutputConfig), "Where the run is written: a folder, or a mapping.")
    plugins: PluginsConfig = setting(Factory(PluginsConfig), "Which plugins take part.")
    origins: Mapping[type, Origin] = field(
        factory=dict,
        eq=False,
        repr=False,
        metadata=about("Where the classes of its components were found when it was loaded.", option=False),
    )

    @property
    def sources(self) -> dict[str, SourceConfig]:
        """The sources of a mixture, each by its key path; empty where there is one set of prompts."""
        if isinstance(self.prompts, PromptsConfig):
            return {}
        return {f"prompts.{i}": source for i, source in enumerate(self.prompts)}

    @property
    def prompt_sets(self) -> tuple[PromptsConfig, ...]:
        """Where prompts come from, be it one place or several."""
        return (self.prompts,) if isinstance(self.prompts, PromptsConfig) else self.prompts

    @property
    def judge_keys(self) -> dict[str, str]:
        """The key path of each source's judge, by the source's name; one set of prompts has an empty one."""
        keys = {s.called: "judge" if s.judge is None else f"{key}.judge" for key, s in self.sources.items()}
        return keys or {"": "judge"}

    @property
    def judges(self) -> dict[str, Judge]:
        """The judges that teach, each by its key path."""
        own = {f"{key}.judge": s.judge for key, s in self.sources.items() if s.judge is not None}
        return ({"judge": self.judge} if "judge" in self.judge_keys.values() else {}) | own


Finding = tuple[tuple[str, ...], str]
"""A key path and what is wrong there."""


def cross_checks(config: Config, registry: Registry) -> list[Finding]:
    """What must hold between settings, and does not. `registry` is asked for remedies."""
    checks = (_sources(config), _needs(config, registry), _weights(config), _training(config), _ties(config))
    return [finding for check in checks for finding in check]


def _sources(config: Config) -> Iterator[Finding]:
    """Sources differ in name, and say themselves what evaluations take from them."""
    called: dict[str, str] = {}
    for key, source in config.sources.items():
        if source.called in called:
            message = f"'{source.called}' is the name of {called[source.called]} too: give another here."
            yield (*key.split("."), "source"), message
        called.setdefault(source.called, key)
    if called and config.evaluation.prompts is not None:
        message = "belong to no source: set prompts.0.evaluation and the like."
        yield ("evaluation", "prompts"), message


def _needs(config: Config, registry: Registry) -> Iterator[Finding]:
    """Everything that a loss or bonus asks for is known, and the sampler draws what is needed."""
    bonuses = ((("bonuses", str(i)), adapt(bonus, BaseBonus).needs) for i, bonus in enumerate(config.bonuses))
    for path, needs in [(("loss",), adapt(config.loss, BaseLoss).needs), *bonuses]:
        for unknown in sorted(set(needs) - set(get_args(Need))):
            yield path, f"its class asks for '{unknown}', which scoring does not know."
        if "reference_samples" in needs and not adapt(config.sampler, BaseSampler).reference_samples:
            sampler = origin_of(config.sampler, "sampler", config.origins).name
            message = f"needs completions from the reference, and sampler '{sampler}' draws none."
            yield path, message + _remedy(registry)


def _remedy(registry: Registry) -> str:
    """The bundled samplers that draw from the reference."""
    names = []
    for provider in registry.of_kind("sampler"):
        with suppress(UserError, TypeError):  # one that needs options is no quick remedy
            if provider.distribution == BUNDLED and adapt(provider.load()(), BaseSampler).reference_samples:
                names.append(f"'sampler: {provider.name}'")
    return f" Use {' or '.join(names)}." if names else ""


def _weights(config: Config) -> Iterator[Finding]:
    if config.adapter.type == "full" and config.model.quantize != "none":
        message = (
            f"full weights cannot be trained with 'model.quantize: {config.model.quantize}', as quantized "
            "weights have no gradient. Use lora or dora, or 'quantize: none'."
        )
        yield ("adapter", "type"), message


def _training(config: Config) -> Iterator[Finding]:
    """The schedule fits into the run, and what goes by evaluations has some."""
    training, schedule = config.training, config.training.schedule
    if schedule is not None and training.iters is not None and schedule.warmup >= training.iters:
        message = f"{schedule.warmup} steps of warm-up leave nothing of a run of {training.iters} steps."
        yield ("training", "schedule", "warmup"), message
    given = config.evaluation.prompts or any(source.evaluation for source in config.sources.values())
    if training.evaluate_every and not given and not config.evaluation.held_out:
        message = "there is nothing to evaluate on: set evaluation.prompts, or evaluation.held_out above 0."
        yield ("training", "evaluate_every"), message
    for key, wanted in (("early_stop", training.early_stop), ("load_best", training.load_best)):
        if wanted and not training.evaluate_every:
            yield ("training", key), "goes by evaluations during the run: set training.evaluate_every."
    if training.load_best and not training.keep_best:
        yield ("training", "load_best"), "needs a checkpoint to load: set training.keep_best to 1 or more."


def _ties(config: Config) -> Iterator[Finding]:
    """A loss without soft labels would take a probability of one half for a label."""
    if config.judging.ties == "keep" and not adapt(config.loss, BaseLoss).soft_labels:
        message = "keep is for a loss with soft labels: set 'loss.soft_labels: true', or use half or drop."
        yield ("judging", "ties"), message
