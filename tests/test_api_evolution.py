"""A plugin written against the first version goes on working: today, and when records and hooks have grown.

What may grow and how is in docs/stability.md; the pins here are what was there first. They are never edited.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pluggy
import pytest
import yaml

import first_version
import prefloop
from first_version import components
from first_version.run import SETTINGS, run
from prefloop import hooks, types
from prefloop.registry import KINDS, Registry
from prefloop_testing import outcomes
from prefloop_testing.checking import SUITES
from support.packages import Prefloop, add_metadata

HOOKS = [kind.hook for kind in KINDS.values()]
TESTS = Path(__file__).resolve().parent

RECORDS = {
    "Prompt": "tokens text messages? id? fields?",
    "Completion": "tokens text stopped? source?",
    "Pair": "prompt first second",
    "Verdict": "probability status? reason? orders?",
    "Sampling": "temperature? top_p? top_k? min_p? max_tokens?",
    "PreferenceBatch": "prompts chosen rejected probability weight",
    "TokenScores": "policy reference mask",
    "Scores": "policy_chosen policy_rejected reference_chosen reference_rejected chosen_tokens "
    "rejected_tokens probability kl_chosen? kl_rejected? chosen_per_token? rejected_per_token? "
    "chosen_from_reference? rejected_from_reference?",
    "Progress": "step steps epoch epochs seed?",
    "Step": "progress metrics pairs? verdicts?",
    "Rate": "rate low high pairs",
    "Evaluation": "step win_rate metrics pairs? verdicts?",
}
"""The fields of each record in the first version; a question mark stands for a default."""

CALLED_BY_PLUGINS = {
    "Verdict.from_scores": "first second *temperature?",
    "Verdict.tie": "reason? orders?",
    "Verdict.abstain": "reason?",
    "Verdict.error": "reason",
    "PreferenceBatch.from_verdicts": "pairs verdicts ties?",
    "Policy.load": "model adapter? reference? *seed?",
    "Policy.generate": "self prompts sampling *seed *source?",
    "Policy.encode": "self text *system? *thinking?",
    "Policy.save": "self folder",
    "Policy.save_model": "self folder",
    "StopRun": "reason verdicts? *failed?",
    "UserError": "*problems",
    "Loop": "policy prompts *judge *sampler? *loss? *bonuses? *training? *ties? *observers?",
    "Loop.step": "self",
    "train": "config *observers?",
    "resume": "path *overrides? *config? *observers?",
    "load_config": "path_or_mapping overrides?",
    "component": "kind name",
}
"""The parameters of what programs and plugins call; a star stands for one that has to be named."""

CALLED_ON_PLUGINS = {
    "Sampler.sample": "self policy prompts progress",
    "Judge.judge": "self pairs",
    "Loss.__call__": "self scores",
    "Bonus.__call__": "self scores progress",
    "Algorithm.settings": "self",
    "Observer.run_started": "self run",
    "Observer.pairs_judged": "self progress pairs verdicts",
    "Observer.step_finished": "self step",
    "Observer.evaluating": "self phase done total",
    "Observer.evaluated": "self evaluation",
    "Observer.checkpoint_saved": "self step path",
    "Observer.run_finished": "self run",
    "Observer.prepare": "self",
}
"""The parameters of the methods that prefloop calls: these never change, as an old method takes no more."""

GROWN = """
import attrs
from prefloop import types
from prefloop.cpu import blas

blas.use_fastest()
for name in {records}:
    old = getattr(types, name)
    options = {{"frozen": True, "eq": "__eq__" in vars(old), "bases": (old,)}}
    setattr(types, name, attrs.make_class(name, {{"added": attrs.field(default="new")}}, **options))

from first_version.run import SETTINGS, run
run()
"""
"""The run of the plugin with every record one of a later version: with a field more."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the plugin counts as installed."""
    folder = tmp_path_factory.mktemp("site")
    add_metadata(folder, "first-version", "first_version")
    return folder


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """The folder of a run by prefloop as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("now"))
        patch.syspath_prepend(site)
        run()
        return Path.cwd()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    """The folder of the same run by a prefloop whose records have all gained a field."""
    folder = tmp_path_factory.mktemp("grown")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(TESTS)])}
    code = GROWN.format(records=list(RECORDS))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_first_plugin_trains(now: Path) -> None:
    assert json.loads((now / "run" / "run.json").read_text())["status"] == "finished"
    config = (now / "run" / "config.yaml").read_text()
    used = set(re.findall(r"use: first-version:(\w+)", config))
    assert used == {"doubled", "redrawn", "vowels", "squared", "likely", "diary", "ear"}
    events = [json.loads(line) for line in (now / "diary.jsonl").read_text().splitlines()]
    assert [event for event, _ in events if event != "checkpoint_saved"] == [
        "run_started",
        "evaluated",
        *["pairs_judged", "step_finished"] * 2,
        "evaluated",
        "run_finished",
    ]
    told = {outcome for event, value in events if event == "pairs_judged" for outcome in value[2]}
    assert "ok" in told <= {"ok", "tie", "abstained"}


@pytest.mark.slow
def test_the_first_plugin_trains_where_the_bundled_ones_are_disabled(site: Path, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({**SETTINGS, "evaluation": {"held_out": 0}}))
    done = Prefloop(tmp_path)(
        "train", "my.yaml", "--set", "output.report=false", path=[site, TESTS], disable="prefloop"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert set(re.findall(r"use: ([\w-]+):", (tmp_path / "run" / "config.yaml").read_text())) == {
        "first-version"
    }


def test_the_first_plugin_does_the_same_when_records_have_more_fields(now: Path, grown: Path) -> None:
    assert (now / "witness").read_text() == "None\n" * 2
    assert (grown / "witness").read_text() == "new\n" * 2  # the fields were really there
    for file in ("diary.jsonl", "run/adapters.safetensors"):
        assert (now / file).read_bytes() == (grown / file).read_bytes(), file
    assert _judged(now) == _judged(grown) != []


def _judged(folder: Path) -> list[dict[str, Any]]:
    """The ledger, but for how long it took and the checksum of that."""
    lines = (folder / "run" / "judgements.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "crc")} for line in lines]


def test_the_first_plugin_registers_when_hooks_take_more_arguments() -> None:
    """A later hook is told more; who does not ask for it is called as before, beside one who does."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(SimpleNamespace(**{hook: hooks.hookspec(_later_spec()) for hook in HOOKS}))
    manager.register(first_version)
    manager.register(SimpleNamespace(**{hook: hooks.hookimpl(_later_plugin()) for hook in HOOKS}))
    manager.check_pending()
    for hook in HOOKS:
        offered = getattr(manager.hook, hook)(version="2.0", settings={})
        assert [set(names) for names in offered] == [{"later-2.0"}, set(getattr(first_version, hook)())]


def _later_spec() -> Any:
    def spec(version: str, settings: dict[str, Any]) -> hooks.Components:
        raise NotImplementedError

    return spec


def _later_plugin() -> Any:
    def impl(version: str) -> hooks.Components:
        return {f"later-{version}": "later:Later"}

    return impl


def test_an_observer_of_the_first_version_ignores_events_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefloop.Observer, "of_a_later_version", lambda self, *_: None, raising=False)
    loop = object.__new__(prefloop.Loop)
    first = (components.Diary(), components.Ear())
    loop.observers = tuple(prefloop.adapt(observer, prefloop.Observer) for observer in first)
    loop.notify("of_a_later_version", "argument", 2)


@pytest.mark.parametrize("kind", SUITES)
def test_the_conformance_kit_still_passes_the_first_plugin(
    kind: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    offered = [p for p in Registry().providers if (p.kind, p.distribution) == (kind, "first-version")]
    assert offered
    for provider in offered:
        suite = type("Test", (SUITES[kind],), {"component": provider.load()()})
        assert {o.test: o.message for o in outcomes(suite) if o.status == "failed"} == {}


@pytest.mark.parametrize("name", RECORDS)
def test_records_gain_fields_only_at_the_end_and_with_a_default(name: str) -> None:
    fields = [f.name + "?" * (f.default is not attrs.NOTHING) for f in attrs.fields(getattr(types, name))]
    first = RECORDS[name].split()
    assert fields[: len(first)] == first
    assert all(field.endswith("?") for field in fields[len(first) :])


@pytest.mark.parametrize("name", CALLED_BY_PLUGINS)
def test_functions_gain_only_parameters_that_may_be_left_out(name: str) -> None:
    parameters = list(_parameters(_named(name)))
    first = CALLED_BY_PLUGINS[name].split()
    by_place = [p for p in parameters if not p.startswith("*")]
    first_by_place = [p for p in first if not p.startswith("*")]
    assert by_place[: len(first_by_place)] == first_by_place
    assert set(first) <= set(parameters)
    assert all(p.endswith("?") for p in set(parameters) - set(first))


@pytest.mark.parametrize("name", CALLED_ON_PLUGINS)
def test_methods_that_prefloop_calls_never_change(name: str) -> None:
    assert list(_parameters(_named(name))) == CALLED_ON_PLUGINS[name].split()


def _named(name: str) -> Any:
    first, _, rest = name.partition(".")
    found = getattr(prefloop, first, None) or getattr(types, first)
    return inspect.getattr_static(found, rest) if rest else found


def _parameters(function: Any) -> Iterator[str]:
    """The parameters as the tables above write them."""
    for name, parameter in inspect.signature(getattr(function, "__func__", function)).parameters.items():
        star = "*" * (parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL))
        optional = "?" * (parameter.default is not parameter.empty)
        if name != "cls":
            yield f"{star}{name}{optional}"
