"""`prefloop train --report-to`: observers by name, as overrides of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from prefloop.config import load_config
from prefloop.errors import UserError, guess
from prefloop.registry import Registry, origin_of

TRACKERS = "prefloop-trackers"
"""The package that brings trackers, for those who have none yet."""

report_option = click.option(
    "--report-to",
    metavar="NAME[,NAME]",
    default="",
    help="Observers to add to those of CONFIG, such as the trackers wandb, tensorboard and mlflow.",
)


def with_reports(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str], report_to: str
) -> Sequence[str]:
    """The overrides, and one for each observer in `report_to` that the configuration does not have yet.

    Raises `UserError` where there is no such observer.
    """
    names = list(dict.fromkeys(name for part in report_to.split(",") if (name := part.strip())))
    if not names:
        return overrides
    settings = load_config(config, overrides)
    registry = Registry(settings.plugins.disable)
    there = {origin_of(observer, "observer", settings.origins).name for observer in settings.observers}
    wanted = [name for name in names if _find(registry, name) not in there]
    return [*overrides, *(f"observers.+={name}" for name in wanted)]


def _find(registry: Registry, name: str) -> str:
    """The qualified name of an observer."""
    offered = {p.name for p in registry.of_kind("observer")}
    if name in offered or ":" in name:
        return registry.find("observer", name).qualified
    hint = guess(name, offered)
    if not hint and TRACKERS not in registry.installed:
        hint = f" Trackers come with a package of their own: pip install '{TRACKERS}[{name}]'."
    hint = hint or f" Known: {', '.join(sorted(offered))}."
    raise UserError(f"--report-to: there is no observer '{name}'.{hint}{registry.set_aside()}")
