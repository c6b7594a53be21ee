"""What is public: the names, that a wheel holds them, and that nothing speaks or writes unasked.

A name leaves this list only as docs/stability.md says.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import mlx.core as mx
import pytest

import prefloop
import prefloop_testing
import prefloop_testing.samples
from support.tiny_models import ModelFolder

ROOT = Path(__file__).resolve().parent.parent

NAMES = [
    *["BaseBonus", "BaseJudge", "BaseLoss", "BaseSampler", "Bonus", "Command", "Completion", "Config"],
    *[
        "Evaluation",
        "Judge",
        "Judgement",
        "Loop",
        "Loss",
        "NewRecords",
        "Observer",
        "Opinion",
        "Pair",
        "Pending",
    ],
    *["Policy", "PreferenceBatch", "Progress", "Prompt", "Rate", "Run", "RunView", "Sampler", "Sampling"],
    *["Scores", "Stateful", "Step", "StepMetrics", "StopRun", "TokenScores", "UserError", "Verdict", "adapt"],
    *["component", "hookimpl", "load_config", "load_model", "open_run", "resume", "train"],
]
DEPRECATED = ["LabelledPair", "labelled_pairs"]
MOVED = {
    "blas.REMEDY": "prefloop.cpu.blas.REMEDY",
    "blas.uses_linux_cpu_backend": "prefloop.cpu.blas.uses_linux_cpu_backend",
    "blas.use_fastest": "prefloop.cpu.blas.use_fastest",
    "questions.DEFAULT_RUBRIC": "prefloop_plugins.questions.DEFAULT_RUBRIC",
    "questions.fence_for": "prefloop_plugins.questions.fence_for",
    "questions.user_message": "prefloop_plugins.questions.user_message",
    "trunk.padded": "prefloop.model.split.padded",
    "trunk.without_gradient": "prefloop.model.split.inference_attention",
}
"""Names of modules that were public or named in the documentation, and where they are now."""
KIT = [
    *["AlgorithmSuite", "BonusSuite", "ComponentSuite", "JudgeSuite", "LossSuite", "Note", "ObserverSuite"],
    *["Outcome", "PluginSuite", "SamplerSuite", "outcomes"],
]

EMBEDDED = """
import sys
from pathlib import Path
from prefloop import Loop, Pair, Policy, Verdict, component, load_config, train
from prefloop.config import TrainingConfig

class Brevity:
    def judge(self, pairs):
        return [Verdict.from_scores(-len(p.first.text), -len(p.second.text)) for p in pairs]

policy = Policy.load("embedded:policy")
prompts = [policy.encode(f"What does a {animal} say?") for animal in ("cow", "dog", "cat", "duck")]
short = component("sampler", "policy")(max_completion_length=8)
training = TrainingConfig(batch_size=4, iters=1)
list(Loop(policy, prompts, judge=Brevity(), sampler=short, training=training))

output = {"path": "run", "report": False}  # the charts of a report leave matplotlib's cache in the home
settings = {"model": "embedded:policy", "prompts": {"path": "embedded:prompts", "limit": 8}, "output": output}
short = {"sampler": {"max_completion_length": 8}, "evaluation": {"held_out": 0}}
train(load_config({**settings, **short, "judge": {"use": "rule", "length": "shorter"}}, ["training.iters=1"]))
"""
"""Steps with a judge of the program's own, then a whole run into a folder that it names."""
ARGUMENTS = ["--help", "--set", "training.iters=0", "nonsense"]
"""Those of the program that embeds the loop: none of ours to read."""


def test_the_public_names_are_pinned() -> None:
    assert sorted(prefloop.__all__) == sorted(NAMES)
    assert dir(prefloop) == prefloop.__all__


@pytest.mark.parametrize("name", DEPRECATED)
def test_a_deprecated_name_works_and_says_what_replaces_it(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"prefloop\.{name} is now prefloop_plugins\.[\w.]+{name};"):
        assert getattr(prefloop, name) is not None


@pytest.mark.parametrize("old", MOVED)
def test_a_module_that_moved_still_has_its_names(old: str) -> None:
    old_module, _, old_name = old.partition(".")
    module, _, name = MOVED[old].rpartition(".")
    with pytest.warns(
        DeprecationWarning, match=rf"prefloop\.{re.escape(old)} is now {re.escape(MOVED[old])};"
    ):
        found = getattr(importlib.import_module(f"prefloop.{old_module}"), old_name)
    assert found is getattr(importlib.import_module(module), name)


def test_a_name_that_an_old_module_never_had() -> None:
    for module in ("blas", "questions", "trunk"):
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            importlib.import_module(f"prefloop.{module}").nonsense  # noqa: B018


def test_a_model_is_still_split_by_the_old_names(model_folder: ModelFolder) -> None:
    from prefloop.trunk import Trunk

    model = prefloop.load_model(str(model_folder("llama"))).model
    tokens = mx.array([[5, 9, 20]])
    with pytest.warns(DeprecationWarning, match=r"prefloop\.trunk\.Trunk is now .*\.SplitModel") as warned:
        trunk = Trunk(model)
    assert [warning.filename for warning in warned] == [__file__]
    assert trunk.divided and trunk.model is model
    assert trunk.hidden(tokens).shape == (1, 3, model.args.hidden_size)
    assert mx.allclose(trunk.head(trunk.hidden(tokens)[0]), model(tokens)[0], atol=1e-5)


def test_the_names_of_the_conformance_kit_are_pinned() -> None:
    assert sorted(prefloop_testing.__all__) == sorted(KIT)
    for name in KIT:
        assert getattr(prefloop_testing, name).__name__ == name
    with pytest.raises(AttributeError, match=r"module 'prefloop_testing' has no attribute 'JugdeSuite'"):
        prefloop_testing.JugdeSuite  # noqa: B018


def test_the_kit_under_its_old_name_says_where_it_is() -> None:
    from prefloop import testing

    with pytest.warns(DeprecationWarning, match=r"prefloop\.testing\.JudgeSuite is now prefloop_testing\.J"):
        assert testing.JudgeSuite is prefloop_testing.JudgeSuite
    with pytest.warns(
        DeprecationWarning, match=r"prefloop\.testing\.samples\.pair is now prefloop_testing\.s"
    ):
        from prefloop.testing.samples import pair
    assert pair is prefloop_testing.samples.pair


@pytest.mark.parametrize("name", DEPRECATED)
def test_a_deprecated_name_warns_where_it_is_used(name: str) -> None:
    with pytest.warns(DeprecationWarning) as caught:
        getattr(prefloop, name)
    assert [warning.filename for warning in caught] == [__file__]


def test_the_kit_of_a_judge_loads_no_model_library() -> None:
    code = "import sys; from prefloop_testing import JudgeSuite, LossSuite, PluginSuite\n"
    report = "print(*sorted({'datasets', 'mlx_lm', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_embedded_training_prints_nothing_and_writes_only_its_run(tmp_path: Path) -> None:
    """A program that embeds the loop: its terminal, its folder, its home and its arguments are its own."""
    folder, home = tmp_path / "folder", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED, *ARGUMENTS],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in folder.iterdir()] == ["run"]  # what `train` was told to write
    assert list(home.iterdir()) == []


def test_a_wheel_holds_every_module(tmp_path: Path) -> None:
    """What version control ignores, the build leaves out: a folder named in .gitignore would be missing."""
    from hatchling.builders.wheel import WheelBuilder

    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    held = set(zipfile.ZipFile(wheel).namelist())
    for source in (ROOT / "core", ROOT / "plugins"):
        modules = {str(path.relative_to(source)) for path in source.rglob("*.py")}
        assert modules and modules <= held
