"""The sampler that takes pairs from a preference data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from prefloop import Policy, Progress, Prompt, Sampling, UserError, load_config, train
from prefloop_plugins.commands.exporting import export_pairs
from prefloop_plugins.judges.label import LabelJudge
from prefloop_plugins.samplers import DatasetSampler, PolicySampler

QUESTIONS = [f"What does a {animal} say?" for animal in ("cow", "dog", "cat", "duck")]
LENGTH = 10


def prompt(policy: Policy, **row: Any) -> Prompt:
    return evolve(policy.encode("What does a cow say?"), fields=row, id="pairs.jsonl:1")


def progress(seed: int) -> Progress:
    return Progress(1, 1, 0.0, 1.0, seed)


def rows(policy: Policy) -> list[Prompt]:
    """A labelled row in each of the formats."""
    return [
        prompt(policy, chosen="Moo!", rejected="Woof."),
        prompt(policy, chosen=[{"role": "assistant", "content": "Moo!"}], rejected="Woof.", probability=0.75),
        prompt(policy, first="Woof.", second="Moo!", label="second"),
    ]


def test_answers_of_a_file_are_encoded_like_the_policy_s_own() -> None:
    policy = Policy.load("embedded:policy")
    sampled = policy.generate([policy.encode(q) for q in QUESTIONS], Sampling(0.0, max_tokens=32), seed=1)
    for completion in sampled:
        assert completion.stopped
        assert policy.completion(completion.text).tokens == completion.tokens
    cut = policy.completion(sampled[0].text, max_tokens=3)
    assert (cut.tokens, cut.stopped) == (sampled[0].tokens[:3], False)
    (stop,) = sampled[0].tokens[-1:]
    assert policy.completion("Moo.<|im_end|>Woof.").tokens == (*policy.completion("Moo.").tokens[:-1], stop)


def test_pairs_of_a_file_come_in_either_order_and_keep_their_labels() -> None:
    policy, sampler, judge = Policy.load("embedded:policy"), DatasetSampler(), LabelJudge()
    prompts, places = rows(policy), set()
    for seed in range(8):
        pairs = sampler.sample(policy, prompts, progress(seed))
        assert [p.prompt for p in pairs] == prompts
        for pair, verdict in zip(pairs, judge.judge(pairs), strict=True):
            better = pair.first if verdict.prefers_first else pair.second
            assert (better.text, verdict.status) == ("Moo!", "ok")
            places.add(verdict.prefers_first)
        soft = judge.judge(pairs)[1].probability
        assert max(soft, 1 - soft) == 0.75
    assert places == {True, False}


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"first": "a", "second": "b"}, "abstained"),
        ({"first": "a", "second": "b", "label": "tie"}, "tie"),
        ({"chosen": "a", "rejected": "b", "probability": 0.5}, "tie"),
        ({"chosen": "a", "rejected": "a"}, "tie"),
    ],
)
def test_a_row_without_a_winner_has_no_label(row: dict[str, Any], outcome: str) -> None:
    policy = Policy.load("embedded:policy")
    pairs = DatasetSampler().sample(policy, [prompt(policy, **row)], progress(0))
    assert [v.status for v in LabelJudge().judge(pairs)] == [outcome]


def test_answers_that_are_not_in_the_file_get_errors() -> None:
    policy = Policy.load("embedded:policy")
    asked = [prompt(policy, chosen="Moo!", rejected="Woof."), policy.encode("What does a cow say?")]
    drawn = PolicySampler(max_completion_length=4).sample(policy, asked, progress(0))
    reasons = [verdict.reason or "" for verdict in LabelJudge().judge(drawn)]
    assert "use the sampler 'dataset'" in reasons[0]
    assert "comes from no labelled pair" in reasons[1]


def settings(folder: Path, path: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": "embedded:policy",
        "algorithm": "offline_dpo",
        "prompts": str(path),
        "training": {"batch_size": 4, "iters": 6, "learning_rate": 3e-4},
        "evaluation": {"held_out": 2},
        "output": str(folder / "offline"),
        **more,
    }


def write(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_exported_pairs_train_offline(tmp_path: Path) -> None:
    """From an online run to a file to an offline run, which needs no judge to learn."""
    online = {
        **settings(tmp_path, tmp_path, algorithm="online_dpo", output=str(tmp_path / "online")),
        "prompts": {"path": "embedded:prompts", "limit": 8},
        "judge": {"use": "rule", "prefer": ["Sure", "hope"], "length": "longer"},
        "sampler": {"max_completion_length": 16},
        "evaluation": {"held_out": 0},
    }
    path = write(tmp_path / "pairs.jsonl", export_pairs(train(load_config(online)).path, details=True).rows)
    # Every step has the same four pairs, so that what is learnt does not hang on which pairs come last.
    run = train(load_config(settings(tmp_path, path, prompts={"path": str(path), "limit": 6})))
    metrics = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert run.status == "finished"
    assert "win_rate" not in run.summary, "the labels of a file cannot judge new answers"
    assert all(m["labelled"] == 4 for m in metrics)
    assert metrics[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert metrics[-1]["margin"] > 1e-3


def test_offline_training_is_evaluated_by_another_judge(tmp_path: Path) -> None:
    """What it learns is a way of speaking that the policy has, so that it learns it in a few steps."""
    said = {"cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack"}
    lines = [
        {
            "prompt": f"What does a {animal} say?",
            "chosen": f"Sure thing! A {animal} says {sound}.",
            "rejected": f"Fine. A {animal} says {sound}.",
        }
        for animal, sound in said.items()
    ]
    changes = {
        "evaluation": {"prompts": "embedded:held_out", "judge": {"use": "rule", "prefer": ["Sure"]}},
        "sampler": {"max_completion_length": 8},
        "training": {"batch_size": 4, "iters": 6, "learning_rate": 1e-3},
    }
    run = train(load_config(settings(tmp_path, write(tmp_path / "pairs.jsonl", lines), **changes)))
    rates = run.summary["win_rate"]
    assert rates["after"]["rate"] > rates["before"]["rate"]


def test_prompts_without_pairs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    lines = [{"prompt": "Hi", "chosen": "Hello."}, {"prompt": "Hi", "chosen": "a", "rejected": "b"}]
    path = write(tmp_path / "pairs.jsonl", lines * 4)
    with pytest.raises(UserError, match=r"pairs\.jsonl:1 has no 'rejected'") as told:
        train(load_config(settings(tmp_path, path, evaluation={"held_out": 0})))
    assert len(told.value.problems) == 4
    assert not (tmp_path / "offline").exists()
