"""Who answers in the arena: the models of a run, asked as they were trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import SETTINGS
from prefloop import Sampling, load_config, train
from prefloop.embedded import local_path
from prefloop_studio.talker import Talker


def test_a_run_talks_from_any_folder_as_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(local_path("embedded:policy"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    train(load_config({**SETTINGS, "model": "mine"}, [f"output.path={tmp_path / 'run'}"]))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    talker = Talker.of(tmp_path / "run")
    messages = [{"role": "user", "content": "What does a dog say?"}]
    asked = {"messages": messages, "temperature": 0.0, "top_p": 1.0, "max_tokens": 12, "seed": 0}
    *pieces, last = talker.answer({**asked, "source": "policy"})
    assert last["done"] and last["step"] == 3
    sampling = Sampling(temperature=0.0, max_tokens=12)
    (wanted,) = talker.policy.generate([talker.policy.encode("What does a dog say?")], sampling, seed=0)
    assert wanted.text and "".join(piece["text"] for piece in pieces).strip() == wanted.text.strip()
