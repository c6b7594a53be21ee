"""`prefloop plugins new` and `check`: what is written works at once, as its author would try it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from prefloop import UserError
from prefloop_plugins.scaffold import NEW, write
from support.packages import Prefloop, pip_install

NAME = "brevity-first"


def run(*command: str, folder: Path, path: Path) -> str:
    """A Python module run in `folder`, with what is installed in `path`; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path), "PREFLOOP_STRICT_PLUGINS": "", "PREFLOOP_DISABLE": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {kind: write(kind, NAME, folder).folder for kind in NEW}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Path]) -> Path:
    """All seven packages installed, as pip installs them."""
    target = tmp_path_factory.mktemp("site")
    pip_install(target, sources.values())
    return target


@pytest.mark.parametrize(
    "kind", ["judge", *(pytest.param(kind, marks=pytest.mark.slow) for kind in NEW if kind != "judge")]
)
def test_the_tests_of_a_new_package_pass(sources: dict[str, Path], site: Path, kind: str) -> None:
    out = run("pytest", "-p", "no:cacheprovider", folder=sources[kind], path=site)
    assert " passed" in out
    assert "failed" not in out


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEW)
def test_a_new_package_passes_lint_and_strict_types(sources: dict[str, Path], site: Path, kind: str) -> None:
    if not (importlib.util.find_spec("ruff") and importlib.util.find_spec("mypy")):
        pytest.skip("ruff and mypy are not installed")
    run("ruff", "check", "--no-cache", ".", folder=sources[kind], path=site)
    run("ruff", "format", "--no-cache", "--check", ".", folder=sources[kind], path=site)
    run("mypy", "--cache-dir", str(site.parent / "mypy"), folder=sources[kind], path=site)


def test_a_run_finds_the_component_of_a_new_package(tmp_path: Path, site: Path) -> None:
    prefloop = Prefloop(tmp_path)
    shown = prefloop.out("plugins", "show", "judge", NAME, path=[site])
    assert shown.startswith(f"judge prefloop-judge-{NAME}:{NAME} (0.1.0)\n")
    shown = prefloop.out("train", "--dry-run", "--set", f"judge={NAME}", path=[site])
    assert "Everything is ready to train." in shown


def test_check_passes_a_right_package(tmp_path: Path, site: Path) -> None:
    lines = Prefloop(tmp_path).out("plugins", "check", f"prefloop-judge-{NAME}", path=[site]).splitlines()
    assert lines[0] == f"ok      plugin     prefloop-judge-{NAME}: 5 passed"
    assert lines[1].startswith(f"ok      judge      prefloop-judge-{NAME}:{NAME}: 13 passed, 2 skipped")


def test_check_fails_a_wrong_package(tmp_path: Path, site: Path) -> None:
    source = site / "prefloop_judge_brevity_first" / "judge.py"
    wrong = source.read_text().replace("for pair in pairs]", "for pair in pairs[:1]]")
    mine = tmp_path / "prefloop_judge_brevity_first"
    mine.mkdir()
    (mine / "judge.py").write_text(wrong)
    (mine / "__init__.py").write_text((source.parent / "__init__.py").read_text())
    done = Prefloop(tmp_path)("plugins", "check", f"prefloop-judge-{NAME}", path=[tmp_path, site])
    assert done.returncode == 1
    assert f"FAILED  judge      prefloop-judge-{NAME}:{NAME}" in done.stdout
    assert "  test_one_verdict_per_pair: judge() gave 1 verdicts for 4 pairs" in done.stdout


@pytest.mark.slow
def test_check_passes_all_bundled_components(tmp_path: Path) -> None:
    lines = Prefloop(tmp_path).out("plugins", "check", "prefloop", path=[]).splitlines()
    assert any(line.startswith("ok      algorithm  prefloop:xpo: ") for line in lines)
    assert all(line.startswith(("ok ", "  skipped: ")) for line in lines)


def test_check_names_a_package_that_is_not_installed(tmp_path: Path) -> None:
    done = Prefloop(tmp_path)("plugins", "check", "acme-nowhere", path=[])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no plugin of 'acme-nowhere' is installed")


def test_check_names_the_option_that_a_component_requires(tmp_path: Path, site: Path) -> None:
    source = site / "prefloop_judge_brevity_first"
    mine = tmp_path / source.name
    mine.mkdir()
    (mine / "judge.py").write_text((source / "judge.py").read_text().replace("default=20.0,", ""))
    (mine / "__init__.py").write_text((source / "__init__.py").read_text())
    lines = (
        Prefloop(tmp_path)
        .out("plugins", "check", f"prefloop-judge-{NAME}", path=[tmp_path, site])
        .splitlines()
    )
    assert lines[1:] == [
        f"ok      judge      prefloop-judge-{NAME}:{NAME}: 4 passed, 11 skipped",
        "  skipped: it needs the option 'temperature'",
    ]


def test_new_lists_its_files_and_the_next_steps(tmp_path: Path) -> None:
    out = Prefloop(tmp_path).out("plugins", "new", "loss", "steep", path=[])
    assert "prefloop-loss-steep/src/prefloop_loss_steep/loss.py" in out.splitlines()
    assert out.endswith("  pytest\n  prefloop plugins show loss steep\n")
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == set(out.split("\n\n")[0].splitlines())


@pytest.mark.parametrize("name", ["class", "click", "sorted", "open-run", "command"])
def test_a_command_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    package = write("command", name, tmp_path)
    monkeypatch.syspath_prepend(package.folder / "src")
    module = f"prefloop_command_{name.replace('-', '_')}"
    offered = importlib.import_module(module).prefloop_commands()[name]
    target, _, attribute = offered.target.partition(":")
    command = getattr(importlib.import_module(target), attribute)
    assert command.name == name
    done = CliRunner().invoke(command, [str(tmp_path)])
    assert str(done.exception) == f"'{tmp_path}' holds no run: there is no run.json in it."
    dependencies = tomllib.loads((package.folder / "pyproject.toml").read_text())["project"]["dependencies"]
    assert dependencies == ["click>=8.1.7", "prefloop>=0.1"]


def test_an_existing_package_is_not_overwritten(tmp_path: Path) -> None:
    package = write("bonus", "calm", tmp_path)
    kept = package.files[0].read_text()
    with pytest.raises(UserError, match=r"there is already a .* nothing is overwritten"):
        write("bonus", "calm", tmp_path)
    assert package.files[0].read_text() == kept


@pytest.mark.parametrize("name", ["", "Brevity", "two words", "9lives", "a:b", "../up", "a-", "x" * 29])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a judge: use small letters"):
        write("judge", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["judge", "sampler", "loss", "bonus"])
def test_a_name_that_would_hide_its_own_base_class_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=f"would be the class Base{kind.capitalize()}, as prefloop's own is"):
        write(kind, "base", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bundled_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is a bundled loss 'ipo', and bundled names win"):
        write("loss", "ipo", tmp_path)


@pytest.mark.parametrize("name", ["train", "runs", "config", "plugins", "judge"])
def test_a_name_of_prefloops_own_commands_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"there is a bundled command '{name}', and bundled names win"):
        write("command", name, tmp_path)
