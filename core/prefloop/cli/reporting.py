"""`prefloop train --report-to`: observers by name, as overrides of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from prefloop.errors import UserError, guess
from prefloop.registry import Registry, origin_of

if TYPE_CHECKING:
    from prefloop.config import Config

TRACKERS = "prefloop-trackers"
"""The package that brings trackers, for those who have none yet."""

report_option = click.option(
    "--report-to",
    metavar="NAME[,NAME]",
    default="",
    help="Observers to add to those of CONFIG, such as the trackers wandb, tensorboard and mlflow.",
)


def reports(settings: Config, report_to: str) -> list[str]:
    """An override for each observer in `report_to` that the configuration does not have yet.

    Raises `UserError` where there is no such observer.
    """
    names = list(dict.fromkeys(name for part in report_to.split(",") if (name := part.strip())))
    registry = Registry(settings.plugins.disable)
    there = {origin_of(observer, "observer", settings.origins).name for observer in settings.observers}
    return [f"observers.+={name}" for name in names if _find(registry, name) not in there]


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
