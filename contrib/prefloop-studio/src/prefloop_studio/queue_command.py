"""`prefloop queue`: runs that start one after the other, in the background; the pages' queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import asdict

from prefloop import UserError, load_config, open_run
from prefloop.cli.common import PathOnDisk, json_option, print_json, set_option
from prefloop.text import printable

if TYPE_CHECKING:
    from prefloop_studio.queue import Queue


@click.command()
@click.argument("given", metavar="[CONFIG|RUN]...", nargs=-1, type=PathOnDisk())
@set_option
@click.option(
    "--runs",
    "folder",
    default="runs",
    show_default=True,
    type=PathOnDisk(file_okay=False),
    help="Folder of runs.",
)
@click.option("--remove", "names", multiple=True, metavar="NAME", help="Take back what waits or failed.")
@json_option
def queue(
    given: tuple[Path, ...], overrides: tuple[str, ...], folder: Path, names: tuple[str, ...], as_json: bool
) -> None:
    """Let a run of each CONFIG start, and each RUN that was stopped go on, and list what waits.

    They start one after the other, in the background, as those that the Studio's pages start; this returns at
    once. A run's folder is in the folder of runs, under the last part of the configuration's `output`.
    """
    from prefloop_studio.library import Library
    from prefloop_studio.queue import Queue
    from prefloop_studio.starting import free_name, go_on, start

    folder = folder.resolve()
    library, waiting = Library(folder), Queue(folder)
    for name in names:
        waiting.remove(_id_of(waiting, name))
    configs = {path: load_config(path, overrides) for path in given if not path.is_dir()}
    runs = {path: open_run(path).name for path in given if path not in configs}
    for path, name in runs.items():
        if path.resolve().parent != folder or name not in library.names():
            raise UserError(f"'{path}' is not among the runs in '{folder}': name their folder with --runs.")
    for path in given:  # nothing is started before all are known to be right
        if path in runs:
            go_on(library, waiting, runs[path], overrides)
        else:
            name = free_name(library, waiting, configs[path])
            start(library, waiting, path.read_text(encoding="utf-8"), name, overrides=overrides)
    entries = waiting.entries()
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        click.echo(printable(f"{entry.state:<9} {entry.run}"))
        for line in entry.said.splitlines():
            click.echo(printable(f"          {line}"))
    if not entries:
        click.echo("Nothing waits.")


def _id_of(waiting: Queue, name: str) -> str:
    found = next((entry.id for entry in waiting.entries() if entry.run == name), None)
    if found is None:
        raise UserError(f"no run called '{name}' waits.")
    return found
