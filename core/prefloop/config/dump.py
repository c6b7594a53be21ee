"""`dump_config`: settings back to YAML, resolved and with qualified names, so that it loads to the same."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import attrs

from prefloop.config import yaml_core
from prefloop.config.options import element_of, kind_of, options_of
from prefloop.settings import Config, OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from prefloop.registry import Registry


def dump_config(config: Config) -> str:
    """The configuration as YAML. ``load_config`` of it gives an equal configuration.

    A component that no plugin offers, as a program may pass, is named by its class; such a file shows
    what ran, but cannot be loaded.
    """
    return yaml_core.dump(to_plain(config, config.registry))


def to_plain(value: Any, registry: Registry, hint: Any = None) -> Any:
    """A setting as plain values. `hint` is its type, which tells components from sections."""
    if isinstance(value, list | tuple | set | frozenset):
        items = [to_plain(item, registry, element_of(hint)) for item in value]
        return sorted(items) if isinstance(value, set | frozenset) else items
    if isinstance(value, Mapping):
        return {key: to_plain(item, registry, element_of(hint)) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    name = {"use": qualified(value, kind, registry)} if (kind := kind_of(hint)) else {}
    return name | options_to_plain(value, registry)


def options_to_plain(value: Any, registry: Registry) -> dict[str, Any]:
    """The options of a section or component by name."""
    options = options_of(type(value)) if attrs.has(type(value)) else {}
    plain = {n: to_plain(getattr(value, n), registry, o.type) for n, o in options.items()}
    if isinstance(value, OptimizerConfig | ScheduleConfig):
        plain |= plain.pop("options")  # written beside `use`
    return plain


def qualified(component: object, kind: str, registry: Registry) -> str:
    """The qualified name of a component, or its class where no plugin offers it."""
    cls = type(component)
    target = f"{cls.__module__}:{cls.__qualname__}"
    offered = (p.qualified for p in registry.providers if p.kind == kind and p.target in (cls, target))
    return registry.name_of(component) or next(offered, target)
