"""Runs by one process and by two ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from prefloop import Pair, load_config, open_run, train


@pytest.fixture
def alone_and_in_ranks(tmp_path: Path) -> Callable[[Mapping[str, Any]], list[list[Pair]]]:
    """Trains by settings without an output, and gives the pairs that were judged: by one process, by two."""

    def judged(settings: Mapping[str, Any]) -> list[list[Pair]]:
        alone, ranks = (
            {**settings, "output": {"path": str(tmp_path / name), "report": False}}
            for name in ("alone", "ranks")
        )
        train(load_config(alone))
        config = tmp_path / "config.json"
        config.write_text(json.dumps(ranks))
        command = [sys.executable, "-m", "prefloop", "train", str(config), "--ranks", "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        records = (open_run(tmp_path / name).judgements().records for name in ("alone", "ranks"))
        return [[judgement.pair for judgement in found if not judgement.evaluation] for found in records]

    return judged
