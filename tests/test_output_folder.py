"""A run writes into a folder of its own, and touches no file that it did not write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prefloop import StopRun, UserError, load_config, open_run, resume, train
from prefloop.embedded import local_path
from prefloop.runs.run import refuse_taken
from support.small_runs import SETTINGS, StopsAfter, lines

SHORT = {"batch_size": 3, "iters": 3, "save_every": 1}


def settings(output: str, **changes: Any) -> dict[str, Any]:
    own = {"training": SHORT, "output": {"path": output, "report": False}, "evaluation": {"held_out": 0}}
    return {**SETTINGS, **own, **changes}


def files(folder: Path) -> dict[Path, bytes | None]:
    return {path: None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "adapters.safetensors",
        "notes.txt",
        "metrics.jsonl",
        "model/",
        "evaluations/",
        "checkpoints/0000002/",
    ],
)
def test_a_folder_with_files_of_others_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name.endswith("/"):
        Path(name).mkdir(parents=True)
        (Path(name) / "0000001.json").write_text("mine")
    else:
        Path(name).write_text("mine")
    before = files(tmp_path)
    for output in (".", str(tmp_path)):
        with pytest.raises(UserError, match=r"output.path: '.*' is not empty: '.*' is in it"):
            train(load_config(settings(output)))
    assert files(tmp_path) == before


def test_the_folder_of_the_model_the_prompts_or_the_adapters_is_refused(tmp_path: Path) -> None:
    model = Path(shutil.copytree(local_path("embedded:policy"), tmp_path / "model"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "p.jsonl").write_text('{"prompt": "Say moo."}\n' * 5)
    before = files(tmp_path)
    for output in ("model", "data"):
        changes = {"model": str(model), "prompts": str(tmp_path / "data" / "p.jsonl")}
        with pytest.raises(UserError, match="is not empty"):
            train(load_config(settings(str(tmp_path / output), **changes)))
    assert files(tmp_path) == before


def test_a_run_does_not_go_into_another_run(tmp_path: Path) -> None:
    run = train(load_config(settings(str(tmp_path / "run")))).path
    for output in ("new", "checkpoints/0000002/new", "checkpoints/0000009"):
        with pytest.raises(UserError, match=r"lies in the folder of the run '.*run'; give another one"):
            train(load_config(settings(str(run / output))))
    assert resume(run, overrides=["training.iters=4"]).status == "finished"


def test_links_are_looked_through(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "to_full").symlink_to("full")
    (tmp_path / "to_nothing").symlink_to("nothing")
    for name in ("to_full", "to_nothing"):
        with pytest.raises(UserError, match=r"output.path: "):
            train(load_config(settings(str(tmp_path / name))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "to_full", "to_nothing"]


def test_a_new_an_empty_and_a_killed_folder_are_free(tmp_path: Path) -> None:
    refuse_taken(tmp_path / "new" / "one")
    refuse_taken(tmp_path)
    for name in (".lock", "config.yaml", ".run.json.tmp", "log.txt"):
        (tmp_path / name).touch()
        refuse_taken(tmp_path)
    (tmp_path / ".lock").unlink()
    with pytest.raises(UserError, match="is not empty"):
        refuse_taken(tmp_path)


def stopped(path: Path, **changes: Any) -> Path:
    """A run that broke after its second step: it has a checkpoint of the first, and no adapters yet."""
    with pytest.raises(RuntimeError):
        train(
            load_config(settings(str(path), **changes)), observers=[StopsAfter(2, RuntimeError("power cut"))]
        )
    return path


@pytest.mark.parametrize("name", ["adapters.safetensors", "adapter_config.json", "model"])
def test_final_files_replace_only_what_the_run_wrote(tmp_path: Path, name: str) -> None:
    adapter = {"type": "full" if name == "model" else "lora", "layers": 1}
    run = stopped(tmp_path / "run", adapter=adapter)
    theirs = run / name
    if name == "model":
        theirs.mkdir()
        (theirs / "config.json").write_text("{}")
    else:
        theirs.write_text("mine")
    before = files(theirs) or theirs.read_bytes()
    with pytest.raises(UserError, match=rf"'.*{name}' is where this run writes its own.*move it away"):
        resume(run)
    assert (files(theirs) or theirs.read_bytes()) == before
    theirs.rename(tmp_path / "mine")
    assert resume(run).status == "finished"
    assert resume(run, overrides=["training.iters=4"]).status == "finished"
    written = [made.name for made in run.iterdir()]
    assert {"adapters.safetensors", "adapter_config.json"} <= set(written)


def test_files_that_come_while_a_run_goes_on_are_left(tmp_path: Path) -> None:
    class Neighbour:
        def step_finished(self, step: Any) -> None:
            (tmp_path / "run" / "adapters.safetensors").write_text("mine")

    with pytest.raises(UserError, match="move it away"):
        train(load_config(settings(str(tmp_path / "run"))), observers=[Neighbour()])
    assert (tmp_path / "run" / "adapters.safetensors").read_text() == "mine"
    assert open_run(tmp_path / "run").status == "failed"
    (tmp_path / "run" / "adapters.safetensors").unlink()
    assert resume(tmp_path / "run").status == "finished"


def test_a_run_that_goes_on_leaves_what_lies_beside_its_files(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", evaluation={"held_out": 4})
    beside = [
        "notes.txt",
        "evaluations/2024.json",
        ".notes.old",
        ".my.tmp",
        "checkpoints/7/mine",
        ".vimrc.tmp",
    ]
    for name in beside:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    assert resume(run).status == "finished"
    assert [(run / name).read_text() for name in beside] == ["mine"] * len(beside)


# What was removed, doubled or added behind a run's back


def spoil(run: Path, what: str) -> None:
    ledger, metrics = run / "judgements.jsonl", run / "metrics.jsonl"
    if what == "removed":
        ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[1:]))
    elif what == "doubled":
        first = metrics.read_bytes().splitlines(keepends=True)[0]
        metrics.write_bytes(metrics.read_bytes() + first)
    elif what == "evaluation":
        (run / "evaluations").mkdir(exist_ok=True)
        (run / "evaluations" / "mine.json").write_text("{")
    else:
        shutil.copytree(run / "checkpoints" / "0000001", run / "checkpoints" / "0000001 copy")


SAID = {
    "removed": "judgements.jsonl lacks 1 of the 6 lines that the run wrote.",
    "doubled": "metrics.jsonl:3 is there twice.",
    "evaluation": "evaluations/mine.json is damaged and left out.",
    "checkpoint": "checkpoints/0000001 copy has no checkpoint's name and is left out.",
}


@pytest.mark.parametrize("what", SAID)
def test_what_was_done_to_a_run_is_said_in_a_line(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = stopped(tmp_path / "run")
    spoil(run, what)
    assert [str(damage) for damage in open_run(run).check()] == [SAID[what]]
    assert resume(run).status == "finished"
    assert [record.getMessage() for record in caplog.records] == [SAID[what]]
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == [1, 2, 3]


def test_a_line_that_the_run_did_not_write_is_named(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run")
    row = lines(run / "judgements.jsonl")[0]
    del row["crc"]
    with (run / "judgements.jsonl").open("a") as ledger:
        ledger.write(json.dumps(row | {"probability": 0.9}) + "\n")
    (damage,) = open_run(run).check()
    assert str(damage) == (
        "judgements.jsonl:7 has no checksum, unlike the lines before it: the run did not write it."
    )
    with pytest.raises(UserError, match=r"judgements.jsonl:7: this line is damaged .*it has no checksum"):
        resume(run)


def test_an_edited_configuration_is_said(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run")
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("beta: 0.1", "beta: 0.3"))
    assert [str(d) for d in open_run(run).check()] == [
        "config.yaml was changed: it is not what the run wrote."
    ]


@pytest.mark.parametrize(
    ("written", "shown"), [("singing", "unknown"), (None, "unknown"), ("running", "interrupted")]
)
def test_a_status_is_one_that_there_is(tmp_path: Path, written: Any, shown: str) -> None:
    run = stopped(tmp_path / "run")
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**manifest, "status": written}))
    assert open_run(run).status == shown


def test_a_run_that_is_held_is_running(tmp_path: Path) -> None:
    seen: list[str] = []

    class Looks:
        def step_finished(self, step: Any) -> None:
            seen.append(open_run(tmp_path / "run").status)

    train(load_config(settings(str(tmp_path / "run"))), observers=[Looks()])
    assert seen == ["running"] * 3


def test_a_damaged_checkpoint_marks_the_run_failed(tmp_path: Path) -> None:
    run = train(load_config(settings(str(tmp_path / "run"))), observers=[StopsAfter(1, StopRun("tea"))]).path
    (run / "checkpoints" / "0000001" / "state.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        resume(run)
    assert open_run(run).status == "failed"
