"""prefloop: online preference optimisation of language models on Apple MLX, built from plugins.

Everything public is importable from here, and importing it loads no mlx until a name needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefloop.config import Config, load_config
    from prefloop.errors import StopRun, UserError
    from prefloop.hooks import hookimpl
    from prefloop.judging.pair_files import LabelledPair, labelled_pairs
    from prefloop.loop import Loop
    from prefloop.models import load_model
    from prefloop.policy import Policy
    from prefloop.registry import component
    from prefloop.runs.run import Run
    from prefloop.runs.training import resume, train
    from prefloop.types import (
        Bonus,
        Completion,
        Evaluation,
        Judge,
        Loss,
        Observer,
        Pair,
        PreferenceBatch,
        Progress,
        Prompt,
        Rate,
        Sampler,
        Sampling,
        Scores,
        Stateful,
        Step,
        TokenScores,
        Verdict,
    )

_HOME = {
    "Config": "prefloop.config",
    "LabelledPair": "prefloop.judging.pair_files",
    "Loop": "prefloop.loop",
    "Policy": "prefloop.policy",
    "Run": "prefloop.runs.run",
    "StopRun": "prefloop.errors",
    "UserError": "prefloop.errors",
    "component": "prefloop.registry",
    "hookimpl": "prefloop.hooks",
    "labelled_pairs": "prefloop.judging.pair_files",
    "load_config": "prefloop.config",
    "load_model": "prefloop.models",
    "resume": "prefloop.runs.training",
    "train": "prefloop.runs.training",
}
_TYPES = [
    "Bonus",
    "Completion",
    "Evaluation",
    "Judge",
    "Loss",
    "Observer",
    "Pair",
    "PreferenceBatch",
    "Progress",
    "Prompt",
    "Rate",
    "Sampler",
    "Sampling",
    "Scores",
    "Stateful",
    "Step",
    "TokenScores",
    "Verdict",
]
_HOME |= dict.fromkeys(_TYPES, "prefloop.types")

__all__ = [
    "Bonus",
    "Completion",
    "Config",
    "Evaluation",
    "Judge",
    "LabelledPair",
    "Loop",
    "Loss",
    "Observer",
    "Pair",
    "Policy",
    "PreferenceBatch",
    "Progress",
    "Prompt",
    "Rate",
    "Run",
    "Sampler",
    "Sampling",
    "Scores",
    "Stateful",
    "Step",
    "StopRun",
    "TokenScores",
    "UserError",
    "Verdict",
    "component",
    "hookimpl",
    "labelled_pairs",
    "load_config",
    "load_model",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'prefloop' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
