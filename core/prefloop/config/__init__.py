"""YAML to settings and back: `load_config` reads, checks and resolves, `dump_config` writes."""

from prefloop.config.dump import dump_config as dump_config
from prefloop.config.load import load_config as load_config
from prefloop.config.load import load_judge as load_judge
from prefloop.config.schema import Config as Config
from prefloop.config.schema import EvaluationConfig as EvaluationConfig
from prefloop.config.schema import SourceConfig as SourceConfig
from prefloop.settings import AdapterConfig as AdapterConfig
from prefloop.settings import JudgingConfig as JudgingConfig
from prefloop.settings import ModelConfig as ModelConfig
from prefloop.settings import OptimizerConfig as OptimizerConfig
from prefloop.settings import OutputConfig as OutputConfig
from prefloop.settings import PluginsConfig as PluginsConfig
from prefloop.settings import PromptsConfig as PromptsConfig
from prefloop.settings import ScheduleConfig as ScheduleConfig
from prefloop.settings import TrainingConfig as TrainingConfig
