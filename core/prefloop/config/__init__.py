"""YAML to settings and back: `load_config` reads, checks and resolves, `dump_config` writes."""

from __future__ import annotations

from prefloop.config.dump import dump_config
from prefloop.config.load import load_config, load_judge
from prefloop.config.schema import Config, EvaluationConfig
from prefloop.settings import (
    AdapterConfig,
    JudgingConfig,
    ModelConfig,
    OptimizerConfig,
    OutputConfig,
    PluginsConfig,
    PromptsConfig,
    ScheduleConfig,
    TrainingConfig,
)

__all__ = [
    "AdapterConfig",
    "Config",
    "EvaluationConfig",
    "JudgingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "OutputConfig",
    "PluginsConfig",
    "PromptsConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "dump_config",
    "load_config",
    "load_judge",
]
