"""``prefloop config`` and ``prefloop plugins``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from prefloop.cli.config import config
from prefloop.cli.plugins import plugins
from prefloop.config import load_config
from prefloop.errors import UserError
from prefloop_plugins.commands.init import init

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from support.config_files import Files


def run(command: click.Command, *arguments: str | Path) -> str:
    result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_init_validate_show(installed: None, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert f"Wrote {path}." in run(init, "--algorithm", "xpo", "--output", path)
    assert path.read_text("utf-8") == run(init, "--algorithm", "xpo")
    path.write_text(path.read_text("utf-8").replace("  path:\n", "  path: there\n"), "utf-8")
    assert run(config, "validate", path) == f"{path}: OK\n"
    shown = tmp_path / "shown.yaml"
    shown.write_text(run(config, "show", path, "--set", "loss.beta=3"), "utf-8")
    assert load_config(shown) == load_config(path, ["loss.beta=3"])


def test_init_does_not_overwrite(installed: None, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious", "utf-8")
    with pytest.raises(UserError) as caught:
        run(init, "--output", path)
    assert str(caught.value) == f"{path}: exists already. Give another --output, or remove it."
    assert path.read_text("utf-8") == "precious"
    with pytest.raises(UserError, match=r"cannot be written: No such file or directory\.$"):
        run(init, "--output", tmp_path / "none" / "c.yaml")


def test_validate_raises_every_problem(files: Files) -> None:
    path = files.write("model: m\nprompts: p\nbeta: 1\n")
    with pytest.raises(UserError) as caught:
        run(config, "validate", path, "--set", "loss.beta=x")
    assert len(caught.value.problems) == 2


def test_plugins_list_shows_components_broken_and_disabled(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLOOP_DISABLE", "rival")
    lines = run(plugins, "list").splitlines()
    assert lines[0].split() == ["KIND", "NAME", "DISTRIBUTION", "VERSION"]
    assert [line.split() for line in lines if line.startswith("observer")] == [
        ["observer", "tracker", "acme", "1.2"]
    ]
    assert lines[-2:] == ["broken: shaky 1.2: ImportError: no module named 'shaky'", "disabled: rival"]


def test_plugins_list_as_json(installed: None) -> None:
    data = json.loads(run(plugins, "list", "--json"))
    assert {"kind": "judge", "name": "angry", "distribution": "acme", "version": "1.2"} in data["components"]
    assert data["broken"] == [
        {"distribution": "shaky", "version": "1.2", "error": "ImportError: no module named 'shaky'"}
    ]
    assert data["disabled"] == []


def test_plugins_show_describes_options(installed: None) -> None:
    assert run(plugins, "show", "loss", "sigmoid") == (
        "loss prefloop:sigmoid (1.2)\n\n"
        "Options:\n"
        "  beta: a number; default 0.1\n"
        "      Strength of the reference.\n"
        '  penalty: text; default "inside"\n'
    )
    committee = run(plugins, "show", "judge", "committee")
    assert "  members: a list of judges; required\n      The judges.\n" in committee
    assert run(plugins, "show", "judge", "human").endswith(
        "Not an attrs class, so it has no options.\n\nIt has no options.\n"
    )
    with pytest.raises(UserError, match="there is no judge 'humam'"):
        run(plugins, "show", "judge", "humam")


def test_listing_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from prefloop.cli.config import config\n"
        "from prefloop.cli.plugins import plugins\n"
        "import prefloop.config\n"
        "plugins(['list'], standalone_mode=False)\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prefloop" in done.stdout
