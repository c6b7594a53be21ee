"""The names of prefloop that benchmarks use and that are not public, with the modules they lie in.

Public are `prefloop` itself, `prefloop.types` and `prefloop.config`. Everything else is imported from here,
so that a reorganisation of prefloop touches this file alone. A name's module is imported when the name is
asked for: what a worker does not use costs it neither time nor memory.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOME = {
    "Beginning": "prefloop.beginning",
    "Alarms": "prefloop_plugins.alarms",
    "Estimator": "prefloop.runs.planning",
    "Generator": "prefloop.sampling.generator",
    "Plan": "prefloop.runs.plan",
    "Evaluator": "prefloop.evaluation",
    "POOL_BYTES": "prefloop.sampling.generator",
    "Scorer": "prefloop.scoring.scorer",
    "Stops": "prefloop.sampling.stops",
    "adapters": "prefloop.model",
    "append_lines": "prefloop.runs.files",
    "arrays": "prefloop.model.weight_sharing",
    "begun": "prefloop.beginning",
    "blas": "prefloop.cpu",
    "did_you_mean": "prefloop.errors",
    "distinct": "prefloop.metrics",
    "drifts": "prefloop_plugins.report.meters",
    "fence_for": "prefloop_plugins.questions",
    "generator": "prefloop.sampling",
    "lay_out": "prefloop.scoring.scorer",
    "load_adapters": "prefloop.model.adapters",
    "load_prompts": "prefloop.prompts.loading",
    "findings": "prefloop_plugins.report",
    "loading": "prefloop.model",
    "local_path": "prefloop.embedded",
    "make_plan": "prefloop.runs.planning",
    "main": "prefloop.cli",
    "number": "prefloop.metrics",
    "over_optimised": "prefloop_plugins.report.meters",
    "pairs_drawn": "prefloop.runs.planning",
    "pool": "prefloop.sampling",
    "prepare": "prefloop.runs.preparation",
    "read_run": "prefloop_plugins.report.reading",
    "style": "prefloop_plugins.report.meters",
    "user_message": "prefloop_plugins.questions",
    "wilson": "prefloop.evaluation",
    "win_rate": "prefloop.evaluation",
    "Kind": "prefloop_plugins.scaling.machines",
    "Line": "prefloop_plugins.scaling.phases",
    "Link": "prefloop_plugins.scaling.machines",
    "Phases": "prefloop_plugins.scaling.phases",
    "Work": "prefloop_plugins.scaling.wire",
    "amount": "prefloop_plugins.scaling.words",
    "phases_of": "prefloop_plugins.scaling.phases",
    "play_ranks": "prefloop_plugins.scaling.simulation",
    "play_workers": "prefloop_plugins.scaling.simulation",
    "pushed_bytes": "prefloop_plugins.scaling.wire",
    "ranks_bytes": "prefloop_plugins.scaling.wire",
    "ranks_seconds": "prefloop_plugins.scaling.wire",
    "ways": "prefloop_plugins.scaling",
}


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    module = import_module(HOME[name])
    if not hasattr(module, name):  # a module within a package
        return import_module(f"{HOME[name]}.{name}")
    return getattr(module, name)
