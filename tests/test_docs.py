"""The pages in docs/ say what the program does.

Their Python and YAML blocks, and those of README.md, run by ``pytest docs README.md``; ``mkdocs build`` makes
them a site.
"""

from __future__ import annotations

import doctest
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest

from prefloop import Verdict, hooks, load_config, train
from prefloop.metrics import asked_metrics
from prefloop.registry import KINDS, Registry
from prefloop.types import PERSON
from support import family_traits
from support.packages import Prefloop, pip_install

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
FILE = re.compile(r"^```(?:python|toml)\n(# ([\w.]+)\n.*?)^```$", re.MULTILINE | re.DOTALL)
"""A block whose first line is a comment that names a file: its text, and the name."""


def test_generated_tables_code_and_pictures_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_performance_page_lists_the_tested_model_families() -> None:
    assert family_traits.table() in (DOCS / "performance.md").read_text(encoding="utf-8")


def test_known_limits_names_the_families_that_were_tried() -> None:
    page = (DOCS / "known-limits.md").read_text(encoding="utf-8")
    listed = re.search(r"layers of 64: ([\w, \n]+)\.", page)
    assert listed is not None
    assert sorted(re.findall(r"\w+", listed[1])) == sorted(family_traits.TRAITS)


def test_the_page_on_runs_has_the_metrics_that_a_run_writes(tmp_path: Path) -> None:
    settings = {
        "model": "embedded:policy",
        "prompts": {"path": "embedded:prompts", "limit": 40},
        "algorithm": "xpo",
        "judge": "embedded:judge",
        "sampler": {"max_completion_length": 16},
        "training": {"batch_size": 8, "iters": 2, "rollout": 2},
        "evaluation": {"held_out": 4, "answer_column": "answer"},
        "output": str(tmp_path / "run"),
    }
    run = train(load_config(settings))
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "evaluation" not in line]
    evaluations = [line["evaluation"] for line in lines if "evaluation" in line]
    assert (len(steps), len(evaluations)) == (2, 2)
    of_a_person = asked_metrics([Verdict(1.0, by=PERSON, earlier=Verdict(0.1), audit=0.5)])
    assert _names("A line for a step") == sorted(set().union(of_a_person, *steps))
    assert _names("A line for an evaluation") == sorted(set().union(*evaluations))


@pytest.mark.slow
def test_the_program_that_reads_a_run_is_type_correct(tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install --group lint")
    page = (DOCS / "runs.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    paths = os.pathsep.join(str(ROOT / part) for part in ("core", "plugins"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "mypy"), "program.py"]
    environment = {**os.environ, "MYPYPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "Success: no issues found in 1 source file\n"


def _names(section: str) -> list[str]:
    """The first columns of the tables in a section of the page, sorted; repeated names are kept."""
    page = (DOCS / "runs.md").read_text(encoding="utf-8")
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_each_hook_registers_a_component(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = KINDS[kind].hook
    names = {"attrs": attrs, "hookimpl": hooks.hookimpl, "Verdict": Verdict}
    example = doctest.DocTestParser().get_doctest(
        getattr(hooks, hook).__doc__, names, hook, hooks.__file__, None
    )
    assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
    plugin = SimpleNamespace(**{hook: example.globs[hook]})
    entry_point = SimpleNamespace(name="example", dist=None, load=lambda: plugin)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [entry_point])
    registry = Registry()
    assert registry.broken == []
    assert [p.kind for p in registry.providers] == [kind]
    target = registry.providers[0].target
    assert isinstance(target, str) or attrs.has(target)


def test_the_judge_on_its_page_installs_and_judges(tmp_path: Path) -> None:
    source, site, elsewhere = (tmp_path / name for name in ("source", "site", "elsewhere"))
    source.mkdir()
    elsewhere.mkdir()
    for text, name in FILE.findall((DOCS / "plugins.md").read_text(encoding="utf-8")):
        (source / name).write_text(text, encoding="utf-8")
    pip_install(site, [source])
    command = Prefloop(elsewhere)
    rows = [line.split() for line in command.out("plugins", "list", path=[site]).splitlines()]
    assert ["judge", "near-length", "prefloop-judge-near-length", "0.1.0"] in rows
    settings = ["--set", "judge=near-length", "--set", "judge.target=60"]
    assert "Everything is ready to train." in command.out("train", "--dry-run", *settings, path=[site])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_existing_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith(("http", "#")):  # anchors are checked by mkdocs
            assert (page.parent / link.split("#")[0]).exists(), link
