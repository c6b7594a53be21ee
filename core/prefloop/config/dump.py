"""`dump_config`: settings back to YAML, resolved and with qualified names, so that it loads to the same."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from prefloop.config import yaml_nodes
from prefloop.config.options import element_of, kind_of, options_of
from prefloop.registry import Origin, origin_of
from prefloop.settings import OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from prefloop.config.schema import Config

Origins = Mapping[type, Origin]


def dump_config(config: Config) -> str:
    """The configuration as YAML. ``load_config`` of it gives an equal configuration.

    A component that no plugin offers, as a program may pass, is named by its class; such a file shows
    what ran, but cannot be loaded.
    """
    return yaml_nodes.dump(to_plain(config, config.origins))


def to_plain(value: Any, origins: Origins, hint: Any = None) -> Any:
    """A setting as plain values. `hint` is its type, which tells components from sections.

    `origins` are those of its configuration; empty where there is none.
    """
    if isinstance(value, list | tuple | set | frozenset):
        items = [to_plain(item, origins, element_of(hint)) for item in value]
        return sorted(items) if isinstance(value, set | frozenset) else items
    if isinstance(value, Mapping):
        return {key: to_plain(item, origins, element_of(hint)) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    name = {"use": origin_of(value, kind, origins).name} if (kind := kind_of(hint)) else {}
    return name | options_to_plain(value, origins)


def options_to_plain(value: Any, origins: Origins) -> dict[str, Any]:
    """The options of a section or component by name."""
    plain = {n: to_plain(getattr(value, n), origins, o.type) for n, o in options_of(type(value)).items()}
    if isinstance(value, OptimizerConfig | ScheduleConfig):
        plain |= plain.pop("options")  # written beside `use`
    return plain
