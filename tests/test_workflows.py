"""What GitHub reads: workflows and templates parse, name steps that exist, and test the versions claimed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_it_is_a_mapping_in_yaml(file: Path) -> None:
    assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_its_steps_are_those_of_the_script(file: Path) -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = re.findall(r"^(\w+)\(\) \{ # ", script, re.M)
    for named in re.findall(r"run: \.ci/run (.+)", file.read_text(encoding="utf-8")):
        assert set(named.split()) <= set(steps)


def test_the_versions_that_are_tested_are_those_that_are_claimed() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = "Programming Language :: Python :: "
    claimed = [c.removeprefix(python) for c in project["classifiers"] if c.startswith(python)]
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == claimed
    assert project["requires-python"] == f">={claimed[0]}"


def test_the_tests_that_are_run_with_other_kernels_are_there() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    listed = re.search(r'^ROUNDED="(.*?)^"', script, re.M | re.S)
    assert listed
    for name in listed[1].split():
        file, _, function = name.partition("::")
        assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8")
        assert (ROOT / file).is_file()
