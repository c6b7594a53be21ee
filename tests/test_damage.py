"""What was changed behind a run's back is noticed before the run goes on with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from prefloop import UserError, load_config, resume, train
from prefloop.runs.files import append_lines, read_lines
from support.small_runs import settings_for

LONGER = ["training.iters=6"]
PROMPTS = [{"prompt": f"What does animal number {i} say?"} for i in range(30)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps, with a checkpoint every second step."""
    folder = tmp_path_factory.mktemp("damage")
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    training = {"batch_size": 3, "iters": 4, "save_every": 2}
    settings = settings_for(folder / "run", prompts=str(folder / "p.jsonl"), training=training)
    return train(load_config(settings)).path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["adapters.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"]
)
def test_one_changed_bit_of_a_checkpoint_is_noticed(copy: Path, name: str) -> None:
    flip(copy / "checkpoints" / "0000004" / name, -30)
    with pytest.raises(UserError, match=r"0000004' is damaged: .*SHA256SUMS lists\. Remove it to go on"):
        resume(copy, overrides=LONGER)
    shutil.rmtree(copy / "checkpoints" / "0000004")
    assert resume(copy, overrides=LONGER).status == "finished"


def test_a_changed_label_is_noticed(copy: Path) -> None:
    ledger = copy / "judgements.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"status": "', b'"status": "x')
    ledger.write_bytes(b"".join(lines))
    with pytest.raises(
        UserError, match=r"judgements.jsonl:2: this line is damaged \(its checksum does not fit"
    ):
        resume(copy, overrides=LONGER)


def test_a_changed_configuration_is_noticed(copy: Path) -> None:
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("beta: 0.1", "beta: 0.3"))
    with pytest.raises(UserError, match=r"config.yaml' was changed or damaged.*change settings with --set"):
        resume(copy, overrides=LONGER)


def test_changed_prompts_are_noticed(run: Path, copy: Path) -> None:
    data = run.parent / "p.jsonl"
    before = data.read_text()
    data.write_text(before.replace("number 7", "number seven"))
    try:
        with pytest.raises(UserError, match=r"what it depends on has changed: prompts\. Put it back"):
            resume(copy, overrides=LONGER)
    finally:
        data.write_text(before)
    assert resume(copy, overrides=LONGER).status == "finished"


@pytest.mark.parametrize("line", ["[]", "1", "null", '{"step": "one"}', "{}", "[" * 100_000])
@pytest.mark.parametrize("name", ["metrics.jsonl", "judgements.jsonl"])
def test_a_line_that_is_no_record_is_named(copy: Path, name: str, line: str) -> None:
    (copy / name).write_text(line + "\n")
    with pytest.raises(UserError, match=rf"{name}:1: this line is damaged .*remove it to go on"):
        resume(copy, overrides=LONGER)


def test_a_line_with_checksum_reads_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"text": 'é", "crc": "00000000"}'}, {"text": ""}]
    append_lines(tmp_path / "l.jsonl", rows)
    sealed = (tmp_path / "l.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in sealed] == [row["text"] for row in rows]
    assert all(len(json.loads(line)["crc"]) == 8 for line in sealed)
    assert read_lines(tmp_path / "l.jsonl", dict) == rows
