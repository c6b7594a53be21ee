"""`prefloop plan`, as its user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prefloop import load_config, train
from prefloop.cli import main
from prefloop_plugins.scaling.wire import EMPTY, EXCHANGES, HEADER, VERDICT
from support.small_runs import settings_for

TWO = "machines: 2, link: 1gbe"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`my.yaml`, and `run` and `single`, runs of it with 3 pairs and with 1 a step."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "my.yaml").write_text(json.dumps(settings_for(folder / "other")))
    for name, pairs in (("run", 3), ("single", 1)):
        training = {"iters": 4, "batch_size": pairs}
        train(load_config(settings_for(folder / name, training=training, evaluation={"held_out": 0})))
    return folder


def plan(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        return CliRunner().invoke(main, ["plan", "my.yaml", *arguments])


def document(folder: Path, *arguments: str) -> Any:
    done = plan(folder, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail)


def refused(folder: Path, *arguments: str) -> str:
    done = plan(folder, *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    return done.stderr


def test_without_a_measurement_there_are_bytes_and_memory_alone(folder: Path) -> None:
    found = document(folder, "--machines", "machines: 3, link: 10gbe")
    ways = {(way["name"], way["machines"]): way for way in found["ways"]}
    assert [*ways] == [("one", 1), ("ranks", 2), ("workers", 2), ("ranks", 3), ("workers", 3)]
    assert {way["seconds"] for way in ways.values()} == {None}
    assert found["phases"] is None and found["advice"] is None
    assert "nothing was measured" in found["notes"][0]
    adapters = found["work"]["parameters"] * 4
    assert found["work"]["adapter_bytes"] == adapters
    assert ways["workers", 3]["sent_bytes"] == 2 * adapters + 3 * 2 * found["work"]["prompt_bytes"]
    assert ways["workers", 3]["memory"]["others"] < ways["one", 1]["memory"]["first"]
    # Two ranks have 2 and 1 of 3 pairs: each sends as much as the larger share, and half of the sum twice.
    said = 2 * (2 * (EMPTY + 8 * found["work"]["token_bytes"]) + VERDICT) + (EXCHANGES + 1) * HEADER
    assert ways["ranks", 2]["sent_bytes"] == pytest.approx(found["work"]["gradient_bytes"] + said)


def test_the_memory_of_one_machine_is_that_of_the_dry_run(folder: Path) -> None:
    found = document(folder, "--machines", TWO)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        dry = CliRunner().invoke(main, ["train", "my.yaml", "--dry-run", "--json"])
    memory = json.loads(dry.stdout)["plan"]["memory"]
    held = sum(memory[name] for name in ("weights", "judge", "trained", "optimizer"))
    most = max(memory[name] for name in ("caches", "activations", "update", "judging"))
    assert found["ways"][0]["memory"]["first"] == held + most


def test_seconds_come_from_the_runs_that_are_named(folder: Path) -> None:
    found = document(folder, "--machines", TWO, "--measured", "run", "--measured", "single")
    assert found["phases"][0]["sizes"] == [1, 3]
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row.get("step", 0) > 1 and "seconds_sampling" in row]
    other = [json.loads(line) for line in (folder / "single" / "metrics.jsonl").read_text().splitlines()]
    steps += [row for row in other if row.get("step", 0) > 1 and "seconds_sampling" in row]
    updates = [row.get("seconds_update", 0.0) for row in steps]  # a step without a label makes none
    assert found["phases"][0]["update"] == pytest.approx(sum(updates) / len(updates))
    one, ranks, workers = found["ways"]
    assert min(one["seconds"], ranks["seconds"], workers["seconds"]) > 0
    assert found["advice"]["name"] in ("one", "ranks", "workers")


def test_steps_are_timed_here_where_that_is_asked_for(folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    done = plan(folder, "--machines", TWO, "--measure", "2")
    assert done.exit_code == 0, done.stderr
    assert "measured on this machine: 4 steps of 2 and 3 pairs" in done.stdout
    assert "advice" in done.stdout
    assert {path.name for path in folder.iterdir()} == before


def test_each_machine_may_have_a_run_or_a_speed_of_its_own(folder: Path) -> None:
    text = "machines: [{measured: run}, {measured: run}], link: 1gbe"
    same = document(folder, "--machines", text)
    faster = document(folder, "--machines", "machines: [{}, {speed: 4}], link: 1gbe", "--measured", "run")
    assert same["phases"][0] == same["phases"][1] == faster["phases"][0]
    assert faster["phases"][1]["update"] == pytest.approx(faster["phases"][0]["update"] / 4)


def test_what_does_not_fit_is_said_and_not_recommended(folder: Path) -> None:
    (folder / "machines.yaml").write_text("link: 1gbe\nmachines: [{count: 2, memory_gb: 0.001}]\n")
    done = plan(folder, "--machines", "machines.yaml", "--measured", "run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("(too much)") == 3
    assert "advice" not in done.stdout


def test_all_weights_go_to_no_worker_and_a_person_judges_for_all(folder: Path) -> None:
    full = document(folder, "--machines", TWO, "--set", "adapter={type: full}")
    assert {way["name"] for way in full["ways"]} == {"one", "ranks"}
    assert any("adapter.type: full" in note for note in full["notes"])
    person = document(folder, "--machines", TWO, "--set", "judge=human", "--measure", "2")
    assert any("without the time of the person" in note for note in person["notes"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machines: 2, link: thunderbol", "Did you mean 'thunderbolt'?"),
        ("machine: 2, link: 1gbe", "machine: there is no such option. Did you mean 'machines'?"),
        ("machines: 0, link: 1gbe", "must have from 1 to 1024 machines, not 0"),
        ("machines: two, link: 1gbe", "machines: must be a whole number or a list"),
        ("machines: [{memory: 3}], link: 1gbe", "machines.0.memory: there is no such option"),
        ("machines: [{speed: -1}], link: 1gbe", "machines.0.speed: must be > 0"),
        ("machines: [{count: 2000}], link: 1gbe", "machines.0.count: must be <= 1024"),
        ("machines: 2, link: {gbits: 0}", "link.gbits: must be > 0"),
        ("machines: 2, link: {latency_ms: 1}", "link: must have a kind (1gbe, 10gbe, thunderbolt)"),
        ("machines: 2", "link: is missing"),
        ("machines: [{speed: 2, measured: run}], link: 1gbe", "exclude each other"),
        ("machines: [{measured: run}, {}], link: 1gbe", "machine number 2 has no 'measured'"),
        ("machines: [{measured: nowhere}], link: 1gbe", "nowhere"),
        ("machines: {", "--machines"),
        ("somewhere", "somewhere: there is no such file. Without a file, write"),
    ],
)
def test_mistakes_in_machines_are_said(folder: Path, text: str, said: str) -> None:
    assert said in refused(folder, "--machines", text)


def test_mistakes_in_a_file_have_its_name_and_line(folder: Path) -> None:
    (folder / "wrong.yaml").write_text("machines:\n  - count: 2\n    sped: 3\nlink: 1gbe\n")
    assert "wrong.yaml:3: machines.0.sped: there is no such option. Did you mean 'speed'?" in refused(
        folder, "--machines", "wrong.yaml"
    )
    (folder / "empty.yaml").write_text("\n")
    assert "empty.yaml: the file is empty. Write 'machines: 2'" in refused(folder, "--machines", "empty.yaml")
    assert "Did you mean 'wrong.yaml'?" in refused(folder, "--machines", "wrng.yaml")


def test_mistakes_in_what_is_measured_are_said(folder: Path) -> None:
    both = refused(folder, "--machines", TWO, "--measured", "run", "--measure", "3")
    assert "exclude each other" in both
    other = refused(folder, "--machines", TWO, "--measured", "run", "--set", "adapter.rank=3")
    assert "measure with the same model and adapter" in other
    assert "nowhere" in refused(folder, "--machines", TWO, "--measured", "nowhere")
    shared = folder / "shared"
    shutil.copytree(folder / "run", shared)
    manifest = json.loads((shared / "run.json").read_text())
    assert manifest["ranks"] == 1
    (shared / "run.json").write_text(json.dumps(manifest | {"ranks": 2}))
    assert "2 ranks shared its run" in refused(folder, "--machines", TWO, "--measured", "shared")
    assert "--machines" in refused(folder)
