"""`tests/third_party`, a package of somebody else, installed from its wheel: it uses all of the contract.

It has a judge with every optional ability, an observer that hears every event, and commands; the same package
with misspelt abilities is found out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prefloop import BaseJudge
from prefloop.components import required_and_abilities
from support.packages import Prefloop

SOURCE = Path(__file__).resolve().parent / "third_party"
ROOT = SOURCE.parent.parent
SETTINGS = (
    "judge={use: tally, letter: a}",
    "observers=[scoreboard]",
    "sampler.max_completion_length=8",
    "training.iters=2",
    "training.batch_size=4",
    "training.save_every=1",
    "evaluation.prompts=null",
    "evaluation.answer_column=null",
    "evaluation.held_out=4",
    "output.report=false",
    "output.path=runs/one",
)


def installed(source: Path, folder: Path) -> Path:
    """Build the wheel of a package and install it, offline, as pip does."""
    offline = ["--no-index", "--no-deps", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip"]
    wheels, site = folder / "wheels", folder / "site"
    build = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", *offline, "--target", str(site), str(wheel)], check=True)
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(SOURCE, tmp_path_factory.mktemp("tally"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """The folder in which a run was trained with the judge and the observer."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = [part for setting in SETTINGS for part in ("--set", setting)]
    Prefloop(folder).out("train", *arguments, path=[site])
    return folder


def test_the_judge_has_every_ability_there_is(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    from acme_tally.judge import Tally  # type: ignore[import-not-found, unused-ignore]

    own = {name for name in vars(Tally) if not name.startswith("_")}
    assert set(required_and_abilities(BaseJudge)) - own == set()


def test_it_is_listed_and_its_commands_are_in_the_help(tmp_path: Path, site: Path) -> None:
    prefloop = Prefloop(tmp_path)
    listed = [line.split() for line in prefloop.out("plugins", "list", path=[site]).splitlines()]
    assert ["judge", "tally", "acme-tally", "0.1"] in listed
    assert ["observer", "scoreboard", "acme-tally", "0.1"] in listed
    assert ["command", "runs", "newest", "acme-tally", "0.1"] in listed
    assert "  tally    Count the verdicts of a run.\n" in prefloop.out("--help", path=[site])
    of_runs = prefloop.out("runs", "--help", path=[site])
    assert re.search(r"^  newest +Name the newest run of a folder\.$", of_runs, re.MULTILINE)


def test_help_and_completion_do_not_import_the_commands(site: Path) -> None:
    code = (
        "import sys; from prefloop.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "from click import Context\n"
        "found = main.shell_complete(Context(main), 'ta')\n"
        "print([(item.value, item.help) for item in found], 'acme_tally.commands' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[('tally', 'Count the verdicts of a run.')] False"


@pytest.mark.parametrize("typed", ["prefloop trian ", "prefloop runs lst ", "prefloop boom --"])
def test_completion_after_a_mistake_is_no_traceback(site: Path, typed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site), "_PREFLOOP_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()))}
    code = "from prefloop.cli import main; main(prog_name='prefloop')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_with_commands_alone_can_be_checked(tmp_path: Path) -> None:
    source = Path(shutil.copytree(SOURCE, tmp_path / "source"))
    hooks = source / "src" / "acme_tally" / "__init__.py"
    hooks.write_text(hooks.read_text().replace("@hookimpl\ndef prefloop_judges", "def judges"))
    hooks.write_text(hooks.read_text().replace("@hookimpl\ndef prefloop_observers", "def observers"))
    done = Prefloop(tmp_path)("plugins", "check", "acme-tally", path=[installed(source, tmp_path)])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok      plugin     acme-tally: 5 passed")


def test_a_run_uses_the_judge_and_tells_the_observer_everything(trained: Path) -> None:
    run = trained / "runs" / "one"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert "use: acme-tally:tally" in (run / "config.yaml").read_text()
    board = json.loads((run / "scoreboard.json").read_text())
    assert [event for event in board["events"] if not event.startswith("plan ")] == [
        "run_started one running batch 4",
        "evaluated 0 on 4 pairs",
        *(event for event in board["events"] if event.startswith("pairs_judged 1")),
        "step_finished 1",
        "checkpoint_saved 1 0000001",
        *(event for event in board["events"] if event.startswith("pairs_judged 2")),
        "step_finished 2",
        "evaluated 2 on 4 pairs",
        "checkpoint_saved 2 0000002",
        "run_finished finished",
    ]
    assert {"plan trains", "plan steps", "plan memory"} <= set(board["events"])
    lines = (run / "judgements.jsonl").read_text().splitlines()
    assert board["judged"] == len(lines) > 8


def test_what_the_judge_remembers_is_in_the_checkpoint(trained: Path) -> None:
    import mlx.core as mx

    states = sorted((trained / "runs" / "one" / "checkpoints").glob("*/components.safetensors"))
    first, last = (mx.load(str(path)) for path in states)
    assert isinstance(first, dict) and isinstance(last, dict)
    assert 0 < first["judge/judged"].item() < last["judge/judged"].item()


def test_its_commands_read_the_run(trained: Path, site: Path) -> None:
    prefloop = Prefloop(trained)
    lines = (trained / "runs" / "one" / "judgements.jsonl").read_text().splitlines()
    counted = prefloop.out("tally", "runs/one", path=[site]).split()
    assert sum(map(int, counted[1::2])) == len(lines)
    assert prefloop.out("runs", "newest", path=[site]) == "one\n"


def test_a_mistake_in_its_command_gets_one_line(tmp_path: Path, site: Path) -> None:
    done = Prefloop(tmp_path)("tally", ".", path=[site])
    assert (done.returncode, done.stderr) == (2, "error: '.' holds no run: there is no run.json in it.\n")
    done = Prefloop(tmp_path)("taly", ".", path=[site])
    assert (done.returncode, done.stderr) == (
        2,
        "error: there is no command 'taly'. Did you mean 'tally'?\n",
    )


def test_it_keeps_the_contract(tmp_path: Path, site: Path) -> None:
    done = Prefloop(tmp_path)("plugins", "check", "acme-tally", path=[site])
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout


@pytest.mark.parametrize(
    ("file", "right", "wrong", "message"),
    [
        ("judge.py", "symmetric = True", "symetric = True", "'symetric', which nothing reads: did you mean"),
        ("judge.py", "def prepare(", "def prepair(", "it has 'prepair', which nothing reads: did you mean"),
        ("observer.py", "def step_finished", "def step_finish", "did you mean 'step_finished'?"),
    ],
)
def test_a_misspelt_ability_is_found(tmp_path: Path, file: str, right: str, wrong: str, message: str) -> None:
    source = Path(shutil.copytree(SOURCE, tmp_path / "source"))
    code = source / "src" / "acme_tally" / file
    code.write_text(code.read_text().replace(right, wrong))
    site = installed(source, tmp_path)
    done = Prefloop(tmp_path)("plugins", "check", "acme-tally", path=[site])
    assert done.returncode == 1
    assert message in done.stdout


def test_two_packages_with_one_command_go_by_their_qualified_names(tmp_path: Path, site: Path) -> None:
    source = Path(shutil.copytree(SOURCE, tmp_path / "source"))
    (source / "src" / "acme_tally").rename(source / "src" / "rival")
    for file in (source / "pyproject.toml", *(source / "src" / "rival").glob("*.py")):
        file.write_text(file.read_text().replace("acme-tally", "rival-tally").replace("acme_tally", "rival"))
    rival = installed(source, tmp_path)
    prefloop = Prefloop(tmp_path)
    done = prefloop("tally", "runs/one", path=[site, rival])
    choices = "write 'acme-tally:tally' or 'rival-tally:tally'"
    assert done.stderr == f"error: command 'tally' is offered by several plugins: {choices}.\n"
    assert done.returncode == 2
    assert "  acme-tally:tally   Count the verdicts of a run." in prefloop.out("--help", path=[site, rival])
    done = prefloop("rival-tally:tally", ".", path=[site, rival])
    assert done.stderr == "error: '.' holds no run: there is no run.json in it.\n"


def test_a_command_that_is_none_is_found(tmp_path: Path) -> None:
    source = Path(shutil.copytree(SOURCE, tmp_path / "source"))
    code = source / "src" / "acme_tally" / "commands.py"
    code.write_text(
        code.read_text().replace('@click.command()\n@click.argument("run"', '@click.argument("run"')
    )
    done = Prefloop(tmp_path)("plugins", "check", "acme-tally", path=[installed(source, tmp_path)])
    assert done.returncode == 1
    assert "command 'tally': 'acme_tally.commands:tally' is a function, not a click command" in done.stdout


@pytest.mark.slow
def test_it_is_type_checked_in_strict_mode(site: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed: pip install --group lint")
    own = Path(shutil.copytree(site, tmp_path / "site"))
    paths = os.pathsep.join(map(str, (ROOT / "core", ROOT / "plugins", own)))
    environment = {**os.environ, "MYPYPATH": paths}
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "-p", "acme_tally"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "Success: no issues found in 4 source files\n"
    observer = own / "acme_tally" / "observer.py"
    observer.write_text(observer.read_text().replace("run.name", "run.nmae"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert '"RunView" has no attribute "nmae"' in done.stdout
