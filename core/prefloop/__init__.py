"""prefloop: online preference optimisation of language models on Apple MLX, built from plugins.

Everything public is importable from here, and importing it loads no mlx until a name needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from prefloop.deprecated import moved

if TYPE_CHECKING:  # for type checkers and editors; at run time the table below does the same, lazily
    from prefloop.components import BaseBonus as BaseBonus
    from prefloop.components import BaseJudge as BaseJudge
    from prefloop.components import BaseLoss as BaseLoss
    from prefloop.components import BaseSampler as BaseSampler
    from prefloop.components import Bonus as Bonus
    from prefloop.components import Judge as Judge
    from prefloop.components import Loss as Loss
    from prefloop.components import Observer as Observer
    from prefloop.components import Pending as Pending
    from prefloop.components import Sampler as Sampler
    from prefloop.components import Stateful as Stateful
    from prefloop.components import adapt as adapt
    from prefloop.config import Config as Config
    from prefloop.config import load_config as load_config
    from prefloop.errors import StopRun as StopRun
    from prefloop.errors import UserError as UserError
    from prefloop.hooks import Command as Command
    from prefloop.hooks import hookimpl as hookimpl
    from prefloop.loop import Loop as Loop
    from prefloop.model.loading import load_model as load_model
    from prefloop.model.policy import Policy as Policy
    from prefloop.registry import component as component
    from prefloop.runs.records import Judgement as Judgement
    from prefloop.runs.records import StepMetrics as StepMetrics
    from prefloop.runs.run import Run as Run
    from prefloop.runs.training import resume as resume
    from prefloop.runs.training import train as train
    from prefloop.runs.view import NewRecords as NewRecords
    from prefloop.runs.view import RunView as RunView
    from prefloop.runs.view import open_run as open_run
    from prefloop.types import Completion as Completion
    from prefloop.types import Evaluation as Evaluation
    from prefloop.types import Opinion as Opinion
    from prefloop.types import Pair as Pair
    from prefloop.types import PreferenceBatch as PreferenceBatch
    from prefloop.types import Progress as Progress
    from prefloop.types import Prompt as Prompt
    from prefloop.types import Rate as Rate
    from prefloop.types import Sampling as Sampling
    from prefloop.types import Scores as Scores
    from prefloop.types import Step as Step
    from prefloop.types import TokenScores as TokenScores
    from prefloop.types import Verdict as Verdict

_NAMES = {
    "prefloop.components": "BaseBonus BaseJudge BaseLoss BaseSampler Bonus Judge Loss Observer Pending "
    "Sampler Stateful adapt",
    "prefloop.config": "Config load_config",
    "prefloop.errors": "StopRun UserError",
    "prefloop.hooks": "Command hookimpl",
    "prefloop.loop": "Loop",
    "prefloop.model.loading": "load_model",
    "prefloop.model.policy": "Policy",
    "prefloop.registry": "component",
    "prefloop.runs.records": "Judgement StepMetrics",
    "prefloop.runs.run": "Run",
    "prefloop.runs.training": "resume train",
    "prefloop.runs.view": "NewRecords RunView open_run",
    "prefloop.types": "Completion Evaluation Opinion Pair PreferenceBatch Progress Prompt Rate Sampling "
    "Scores Step TokenScores Verdict",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
_deprecated = moved(
    __name__,
    {
        "LabelledPair": "prefloop_plugins.judging.pair_files:LabelledPair",
        "labelled_pairs": "prefloop_plugins.judging.pair_files:labelled_pairs",
    },
    depth=4,
)

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    return _deprecated(name)


def __dir__() -> list[str]:
    return __all__
