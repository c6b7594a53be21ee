"""Packages of other people, really installed with pip into a folder, and prefloop run as they would.

Each package is what an author writes: a pyproject.toml with an entry point, and a module.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from support.packages import Prefloop, pip_install, write_package

BREVITY = '''
from attrs import frozen
from prefloop import Verdict, hookimpl

@frozen
class Brevity:
    """Prefers the shorter answer."""
    temperature: float = 1.0

    def judge(self, pairs):
        lengths = [(len(p.first.text), len(p.second.text)) for p in pairs]
        return [Verdict.from_scores(-a, -b, temperature=self.temperature) for a, b in lengths]

@hookimpl
def prefloop_judges():
    return {"brevity": Brevity}
'''
LOSS = '''
from attrs import field, frozen
from attrs.validators import gt
from prefloop import hookimpl

@frozen
class Squared:
    """``(d - margin)^2`` of the difference ``d`` of the log-ratios."""
    margin: float = field(default=1.0, validator=gt(0), metadata={"help": "Where the loss is zero."})

    def __call__(self, scores):
        chosen = scores.policy_chosen - scores.reference_chosen
        rejected = scores.policy_rejected - scores.reference_rejected
        return (chosen - rejected - self.margin) ** 2

@hookimpl
def prefloop_losses():
    return {"squared": Squared}
'''
BROKEN = "import a_library_that_nobody_has\n"

ACME = {"acme-judges": BREVITY, "acme-losses": LOSS, "acme-broken": BROKEN}
RIVAL = {"rival-judges": BREVITY}


def install(target: Path, sources: Path, packages: dict[str, str]) -> Path:
    pip_install(target, [write_package(sources / name, name, code) for name, code in packages.items()])
    return target


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("acme"), tmp_path_factory.mktemp("sources"), ACME)


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("rival"), tmp_path_factory.mktemp("sources"), RIVAL)


@pytest.fixture
def prefloop(tmp_path: Path) -> Prefloop:
    return Prefloop(tmp_path)


def test_plugins_list_shows_installed_and_broken_packages(prefloop: Prefloop, acme: Path) -> None:
    lines = prefloop.out("plugins", "list", path=[acme]).splitlines()
    rows = [line.split() for line in lines]
    assert ["judge", "brevity", "acme-judges", "1.2"] in rows
    assert ["loss", "squared", "acme-losses", "1.2"] in rows
    assert any(row[:3] == ["judge", "llm", "prefloop"] for row in rows)
    assert lines[-1] == (
        "broken: acme-broken 1.2: ModuleNotFoundError: No module named 'a_library_that_nobody_has'"
    )


def test_plugins_list_as_json(prefloop: Prefloop, acme: Path) -> None:
    listed = json.loads(prefloop.out("plugins", "list", "--json", path=[acme]))
    judge = {"kind": "judge", "name": "brevity", "distribution": "acme-judges", "version": "1.2"}
    assert judge in listed["components"]
    assert [b["distribution"] for b in listed["broken"]] == ["acme-broken"]
    assert listed["disabled"] == []


def test_plugins_show_describes_the_component(prefloop: Prefloop, acme: Path) -> None:
    assert prefloop.out("plugins", "show", "judge", "brevity", path=[acme]) == dedent("""\
        judge acme-judges:brevity (1.2)

        Prefers the shorter answer.

        Options:
          temperature: a number; default 1.0
        """)


def test_a_dry_run_with_a_judge_by_name(prefloop: Prefloop, acme: Path) -> None:
    shown = prefloop.out("train", "--dry-run", "--set", "judge=brevity", path=[acme])
    assert "Everything is ready to train." in shown
    assert list(prefloop.folder.iterdir()) == []


def test_a_step_with_a_judge_and_a_loss_by_name(prefloop: Prefloop, acme: Path) -> None:
    settings = [
        "judge={use: brevity, temperature: 5.0}",
        "loss={use: squared, margin: 2.0}",
        "training.iters=1",
        "training.batch_size=4",
        "evaluation={held_out: 0}",
        "output=run",
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    prefloop.out("train", *arguments, path=[acme])
    run = prefloop.folder / "run"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["judge"] == {"use": "acme-judges:brevity", "temperature": 5.0}
    assert config["loss"] == {"use": "acme-losses:squared", "margin": 2.0}
    judgements = [json.loads(line) for line in (run / "judgements.jsonl").read_text().splitlines()]
    assert len(judgements) == 4
    for judged in judgements:
        assert judged["judge"] == "acme-judges:brevity"
        first, second = len(judged["first"]["text"]), len(judged["second"]["text"])
        assert (judged["probability"] > 0.5) == (first < second)
    metrics = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    # No step was taken yet: d = 0 but for rounding, so (0 - 2)^2.
    assert metrics["loss"] == pytest.approx(4.0, rel=1e-4)
    assert (run / "adapters.safetensors").stat().st_size > 0


def test_two_packages_with_one_component_name_clash(prefloop: Prefloop, acme: Path, rival: Path) -> None:
    done = prefloop("train", "--set", "judge=brevity", path=[acme, rival])
    assert done.returncode == 2
    assert done.stderr == (
        "error: --set judge=brevity: judge 'brevity' is offered by several plugins: "
        "write 'acme-judges:brevity' or 'rival-judges:brevity'.\n"
    )
    assert list(prefloop.folder.iterdir()) == []
    shown = prefloop.out("plugins", "show", "judge", "rival-judges:brevity", path=[acme, rival])
    assert shown.startswith("judge rival-judges:brevity (1.2)\n")


def test_a_broken_package_is_mentioned_where_a_name_is_missing(prefloop: Prefloop, acme: Path) -> None:
    done = prefloop("plugins", "show", "judge", "brevety", path=[acme])
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no judge 'brevety'. Did you mean 'brevity'? Set aside as broken: "
        "acme-broken (ModuleNotFoundError: No module named 'a_library_that_nobody_has').\n"
    )


def test_two_packages_without_the_bundled_plugins(prefloop: Prefloop, acme: Path) -> None:
    listed = prefloop("plugins", "list", path=[acme], disable="prefloop, acme-broken")
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["KIND", "NAME", "DISTRIBUTION", "VERSION"],
        ["judge", "brevity", "acme-judges", "1.2"],
        ["loss", "squared", "acme-losses", "1.2"],
        ["disabled:", "acme-broken"],
        ["disabled:", "prefloop"],
    ]
    done = prefloop("train", "--set", "judge=brevity", path=[acme], disable="prefloop,acme-broken")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "algorithm: there is no algorithm 'online_dpo'. Disabled: acme-broken, prefloop.\n"
    )
    assert list(prefloop.folder.iterdir()) == []
