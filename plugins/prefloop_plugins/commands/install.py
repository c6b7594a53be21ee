"""`prefloop plugins install` and `uninstall`: packages of plugins, where prefloop itself is installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from prefloop.cli.common import json_option, print_json
from prefloop.errors import UserError, did_you_mean
from prefloop.registry import BUNDLED, Registry, canonical
from prefloop.text import in_a_line, one_line

Listed = Mapping[str, Any]
"""What `prefloop plugins list --json` prints."""
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@click.command("install")
@click.argument("name")
@_yes
@json_option
def install(name: str, yes: bool, as_json: bool) -> None:
    """Install the package NAME and show what it adds: a distribution, a folder, a wheel or a URL, as for pip.

    It goes into the environment that prefloop runs in. A plugin is code, which runs with every command.
    """
    if name.startswith("-"):
        raise UserError(f"'{name}' is no package: give a distribution, a folder, a wheel or a URL.")
    _ask(f"Install '{in_a_line(name)}'", yes)
    before = _listed()
    _run(["install"], name)
    after = _listed()
    added = {key: [row for row in after[key] if row not in before[key]] for key in before}
    if as_json:
        print_json({"package": name, "environment": sys.prefix, **added})
        return
    for row in [*added["components"], *added["commands"]]:
        click.echo(f"{row['kind']:<9}  {row['distribution']}:{row['name']} {row['version']}")
    for row in added["broken"]:
        click.echo(f"broken: {row['distribution']} {row['version']}: {one_line(row['error'])}")
    if not any(added.values()):
        click.echo("Nothing was added to what `prefloop plugins list` shows.")


@click.command("uninstall")
@click.argument("distribution")
@_yes
@json_option
def uninstall(distribution: str, yes: bool, as_json: bool) -> None:
    """Remove the package of the plugin DISTRIBUTION from the environment that prefloop runs in."""
    others = Registry().installed - {BUNDLED}
    if canonical(distribution) not in others:
        raise UserError(f"no plugin '{distribution}' is installed.{did_you_mean(distribution, others)}")
    _ask(f"Remove '{distribution}'", yes)
    _run(["uninstall", "--yes"], distribution)
    if as_json:
        print_json({"package": distribution, "environment": sys.prefix})
    else:
        click.echo(f"Removed {distribution}.")


def _ask(what: str, yes: bool) -> None:
    question = f"{what} in {sys.prefix}?"
    if yes:
        click.echo(question.replace("?", "."), err=True)
    elif not sys.stdin.isatty():
        raise UserError(f"{question} There is nobody to ask: add --yes.")
    else:
        click.confirm(question, abort=True, err=True)


def _run(command: Sequence[str], package: str) -> None:
    """Let pip do it, or uv where this environment has no pip. Raises `UserError` where that fails."""
    if importlib.util.find_spec("pip") is not None:
        full = [sys.executable, "-m", "pip", *command, package]
    elif uv := shutil.which("uv"):  # which never asks
        full = [uv, "pip", command[0], "--python", sys.executable, package]
    else:
        raise UserError(f"{sys.prefix} has no pip, and there is no uv: install one of the two.")
    if subprocess.run(full, stdout=sys.stderr.fileno(), check=False).returncode:
        raise UserError(f"{' '.join(full[:-1])} could not {command[0]} '{package}': see what it says above.")


def _listed() -> Listed:
    """What a new process finds: this one has read already which packages there are."""
    command = [sys.executable, "-m", "prefloop", "plugins", "list", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(*done.stderr.splitlines()[-1:])
    found: dict[str, Any] = json.loads(done.stdout)
    return {key: found[key] for key in ("components", "commands", "broken")}
