"""`prefloop export hub`: what is uploaded, the card, and a server that really receives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from prefloop import load_config, train
from prefloop.cli import main
from support.hub import Hub, stand_in_hub
from support.tiny_models import ModelFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: ModelFolder) -> Path:
    folder = tmp_path_factory.mktemp("private-folder")
    (folder / "secret-prompts.jsonl").write_text(
        "".join(f'{{"prompt": "My private question {i}?"}}\n' for i in range(20))
    )
    settings: dict[str, Any] = {
        "model": str(model_folder("llama")),
        "prompts": str(folder / "secret-prompts.jsonl"),
        "judge": {"use": "rule", "length": "shorter", "prefer": ["e"]},
        "sampler": {"max_completion_length": 6},
        "adapter": {"rank": 4, "layers": 1},
        "training": {"batch_size": 2, "iters": 2, "learning_rate": 0.02, "evaluate_every": 1},
        "evaluation": {"held_out": 4},
        "output": {"path": str(folder / "run"), "report": False},
    }
    train(load_config(settings))
    return folder / "run"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with stand_in_hub() as found:
        yield found


def shown(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", "hub", *map(str, arguments)])


def uploaded(
    hub: Hub, home: Path, *arguments: object, token: str = "hf_test"
) -> subprocess.CompletedProcess[str]:
    """As a user runs it: `huggingface_hub` reads where the Hub is as it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}
    environment.pop("HF_TOKEN", None)
    if token:
        home.mkdir(exist_ok=True)
        (home / "token").write_text(token)
    command = [sys.executable, "-m", "prefloop", "export", "hub", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_without_yes_the_files_and_the_card_are_shown(run: Path) -> None:
    done = shown(run, "me/better", "--base", "owner/base")
    assert done.exit_code == 0, done.stderr or done.exception
    assert done.stdout.startswith("Would be uploaded to me/better, which would be private:\n")
    assert done.stdout.endswith("Nothing was uploaded: give --yes for that.\n")
    listed = {line.split()[-1] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert {"README.md", "adapter_config.json", "adapters.safetensors", "curves.png"} <= listed
    _, head, card = done.stdout.split("---\n", 2)
    about = yaml.safe_load(head)
    assert (about["base_model"], about["library_name"]) == ("owner/base", "mlx")
    assert "license" not in about
    assert "prefloop" in about["tags"]
    (rate,) = [e["win_rate"] for e in evaluations(run) if e["step"] == 2]
    assert f"{rate['rate']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})" in card
    for text in ("unknown: check it", "rule", "secret-prompts.jsonl", "`training.learning_rate` | 0.02"):
        assert text in card
    assert "private question" not in card


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in (run / "evaluations").glob("[0-9]*.json")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["adapters", "fused", "peft"])
def test_the_hub_receives_whole_files_without_paths_of_this_machine(
    run: Path, hub: Hub, tmp_path: Path, model_folder: ModelFolder, what: str
) -> None:
    done = uploaded(hub, tmp_path / "home", run, "me/better", "--what", what, "--base", "owner/base", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Uploaded the policy after step 2 (final) to {hub.address}/me/better.\n"
    assert hub.made["me/better"].get("private") is True or hub.made["me/better"]["visibility"] == "private"
    assert hub.tokens == {"Bearer hf_test"}
    files = hub.files["me/better"]
    main_file = {
        "adapters": "adapters.safetensors",
        "fused": "model.safetensors",
        "peft": "adapter_model.safetensors",
    }
    assert main_file[what] in files
    if what == "adapters":
        assert files["adapters.safetensors"] == (run / "adapters.safetensors").read_bytes()
        assert json.loads(files["adapter_config.json"])["model"] == "owner/base"
    assert files["curves.png"].startswith(b"\x89PNG")
    for name, content in files.items():
        for private in (
            str(run.parent),
            str(model_folder("llama")),
            str(Path.home()),
            "private question",
            "hf_test",
        ):
            assert private.encode() not in content, (name, private)
    again = uploaded(
        hub, tmp_path / "home", run, "me/better", "--what", what, "--base", "owner/base", "--yes"
    )
    assert (again.returncode, again.stderr) == (
        2,
        "error: 'me/better' is on the Hub already. Give another name, or remove it there.\n",
    )


@pytest.mark.slow
def test_an_upload_that_breaks_off_is_one_line(run: Path, hub: Hub, tmp_path: Path) -> None:
    hub.broken = True
    done = uploaded(hub, tmp_path / "home", run, "me/b", "--base", "owner/base", "--yes")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the upload to 'me/b' broke off: ")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_login_nothing_is_asked_of_the_hub(run: Path, hub: Hub, tmp_path: Path) -> None:
    done = uploaded(hub, tmp_path / "home", run, "me/better", "--yes", token="")
    assert (done.returncode, done.stderr) == (
        2,
        "error: nobody is logged in to the Hub: run 'hf auth login' first, then this again.\n",
    )
    assert hub.made == {}


def test_names_and_bases_that_cannot_be_are_refused(run: Path) -> None:
    assert "must be owner/name" in shown(run, "a/b/c").stderr
    assert "names no owner" in shown(run, "better").stderr
    done = shown(run, "me/better")
    assert (done.exit_code, "is not on the Hub, and adapters are of no use without it" in done.stderr) == (
        2,
        True,
    )
    assert "Its base is not on the Hub." in shown(run, "me/better", "--what", "fused").stdout
