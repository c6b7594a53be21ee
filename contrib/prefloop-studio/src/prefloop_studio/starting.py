"""What runs go through on their way into the queue: a name that is free, or that nobody works on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from prefloop import UserError
from prefloop.registry import origin_of
from prefloop.runs.holding import holder_of
from prefloop_studio.library import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefloop import Config
    from prefloop_studio.library import Library
    from prefloop_studio.queue import Entry, Queue


def start(library: Library, queue: Queue, text: str, name: str, *, overrides: Sequence[str] = ()) -> Entry:
    """Let a run of the configuration `text`, which was found to be right, wait for its turn.

    Raises `UserError`.
    """
    folder = library.new(name)
    if queue.holds(folder.name):
        raise UserError(f"a run called '{folder.name}' waits for its turn already.")
    placed = f"output.path={json.dumps(str(folder), ensure_ascii=False)}"
    return queue.add(folder.name, text, overrides=[*overrides, placed])


def go_on(library: Library, queue: Queue, name: str, overrides: Sequence[str]) -> Entry:
    """Let a run that is not going on wait for its turn to do so. Raises `UserError`."""
    if holder_of(library.path(name)) is not None:
        raise UserError(f"'{name}' is going on already.")
    if queue.holds(name):
        raise UserError(f"'{name}' waits for its turn already.")
    return queue.add(name, resume=True, overrides=overrides)


def free_name(library: Library, queue: Queue, config: Config) -> str:
    """The name that the configuration gives, or ALGORITHM-MODEL-NUMBER, as `prefloop train` would call it."""
    given = config.output.path
    if given and NAME.fullmatch(Path(given).name):
        return Path(given).name
    algorithm = origin_of(config.algorithm, "algorithm", config.origins).short
    model = Path(config.model.path.rpartition(":")[2]).name
    taken = {*library.names(), *(entry.run for entry in queue.entries())}
    number = 1
    while (name := f"{algorithm}-{model}-{number}") in taken or (library.folder / name).exists():
        number += 1
    return name
