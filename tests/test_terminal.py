"""What a run says on the terminal: its lines, its warnings, its last words, and how long it will take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefloop.cli.runs import _rate
from prefloop.embedded import resolve
from prefloop_plugins.closing import _next
from prefloop_plugins.report.words import win_rate_sentences


def ended(path: Path, /, **model: Any) -> Any:
    """What the closing words read of a run that finished."""
    model = {"path": "m/q", "quantize": "none", **model}
    settings = {"model": model, "adapter": {"type": "lora"}, "prompts": {"path": "p"}}
    return SimpleNamespace(path=path, status="finished", manifest={}, summary={}, settings=settings)


def test_what_to_type_next_names_the_model_that_was_trained(tmp_path: Path) -> None:
    run = tmp_path / "it's here"
    adapters = f"--adapter-path '{tmp_path}/it'\"'\"'s here'"
    assert f"generate --model m/q {adapters} --prompt Hello" in _next(ended(run))
    quantized = _next(ended(run, quantize="mxfp4"))
    assert "convert --hf-path m/q --quantize --q-mode mxfp4 --mlx-path q-mxfp4\n" in quantized
    assert f"generate --model q-mxfp4 {adapters}" in quantized
    whole = ended(run)
    whole.settings["adapter"]["type"] = "full"
    assert f"generate --model '{tmp_path}/it'\"'\"'s here/model' --prompt Hello" in _next(whole)
    assert f"--model {resolve('embedded:policy')} " in _next(ended(run, path="embedded:policy"))


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({}, ""),
        ({"before": {"rate": 0.5, "pairs": 8}}, ""),
        ({"before": {"rate": 0.5, "pairs": 8}, "after": {"rate": 0.5, "pairs": 0}}, ""),
        ({"before": {"rate": 0.5, "pairs": 8}, "after": {"rate": 0.75, "pairs": 8}}, "win rate 50% to 75%"),
    ],
)
def test_the_list_shows_the_win_rate_of_what_was_trained(rates: dict[str, Any], said: str) -> None:
    assert _rate({"steps": 0, "win_rate": rates}) == said


def test_a_judge_that_gave_no_verdict_gives_no_win_rate() -> None:
    from prefloop.evaluation.stats import wilson

    (sentence,) = win_rate_sentences(wilson(4, 8), wilson(0, 0))
    assert "gave no verdict" in sentence and "%" not in sentence
