"""`prefloop eval`, as its user runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner, Result

from prefloop import Completion, Evaluation, Pair, Prompt, load_config, train
from prefloop.cli import main
from prefloop.evaluation.stats import completion_metrics, wilson
from prefloop_plugins.commands.eval_table import checks
from support.tiny_models import ModelFolder, build

SETTINGS: dict[str, Any] = {
    "model": "embedded:policy",
    "prompts": {"path": "prompts.jsonl"},
    "judge": {"use": "rule", "prefer": ["Sure", "hope"], "length": "longer"},
    "sampler": {"max_completion_length": 8, "temperature": 1.2},
    "adapter": {"rank": 2, "layers": 1},
    "training": {"batch_size": 4, "iters": 2, "learning_rate": 0.01, "save_every": 1, "evaluate_every": 1},
    "evaluation": {"held_out": 6, "answer_column": "answer"},
    "output": "run",
}
PROMPTS = "".join(f'{{"prompt": "Say {i}.", "answer": "{i}"}}\n' for i in range(60))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and the prompts it was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "prompts.jsonl").write_text(PROMPTS)
    settings = {**SETTINGS, "prompts": str(folder / "prompts.jsonl"), "output": str(folder / "run")}
    train(load_config(settings))
    return folder


@pytest.fixture(autouse=True)
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(trained, tmp_path / "here"))
    return Path.cwd()


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", "run", *arguments])


def evaluated(*arguments: str, file: str = "out.json") -> dict[str, Any]:
    done = evaluate(*arguments, *(("--output", file) if file == "out.json" else ()))
    assert done.exit_code == 0, done.stderr
    return read(Path(file))


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_by_default_it_repeats_the_last_evaluation_of_the_run() -> None:
    found = evaluated(file="run/evaluations/final-against-start.json")
    assert (found.pop("policy"), found.pop("prompts")[:13]) == ("step 2 (final)", "held out from")
    assert found.pop("their_metrics")["completion_length"] > 0
    assert found == read(Path("run/evaluations/0000002.json"))
    assert len(found["pairs"]) == 6


def test_nothing_is_asked_or_written_twice() -> None:
    evaluate()
    ledger = Path("run/evaluations/judgements.jsonl")
    before = ledger.read_bytes()
    again = evaluate()
    assert "Wrote run/evaluations/final-against-start-2.json" in again.stdout
    assert ledger.read_bytes() == before
    assert len(before.splitlines()) == 6


def test_the_summary_has_settings_rates_and_intervals() -> None:
    done = evaluate("--against", "base", "--checkpoint", "1", "--prompts", "prompts.jsonl")
    assert done.exit_code == 0, done.stderr
    head, *rest = done.stdout.splitlines()
    assert head.split() == ["run", "step", "1", "against", "base"]
    rows = {line[:26].strip(): line[26:].strip() for line in rest}
    found = read(Path("run/evaluations/1-against-base.json"))
    rate = found["win_rate"]
    low, high = round(100 * rate["low"]), round(100 * rate["high"])
    assert rows["win rate"] == f"{rate['rate']:.1%} ({low}-{high}) of 60"
    assert rows["KL from the reference"] == (
        f"{found['metrics']['kl']:.2f} ± {found['metrics']['kl_se']:.2f} nats"
    )
    assert rows["right answers"] == f"{found['metrics']['accuracy']:.1%}"
    assert rows["prompts"] == "60 prompts.jsonl"
    assert ("cannot be told from the base model" in done.stdout) == (rate["low"] <= 0.5 <= rate["high"])


def test_few_pairs_are_pointed_out() -> None:
    assert "6 pairs are few" in evaluate().stdout


def test_another_judge_with_settings_of_its_own() -> None:
    longer = evaluated("--judge", "rule", "--set", "judge.length=longer")
    shorter = evaluated(
        "--judge", "rule", "--set", "judge.length=shorter", file="run/evaluations/final-against-start.json"
    )
    assert longer["pairs"][0]["ours"] == shorter["pairs"][0]["ours"]
    assert longer["win_rate"]["rate"] == pytest.approx(1 - shorter["win_rate"]["rate"])


def test_settings_of_the_run_that_matter_can_be_changed() -> None:
    found = evaluated("--set", "sampler.max_completion_length=2", "--set", "evaluation.answer_column=null")
    assert found["metrics"]["completion_length_p90"] <= 2
    assert "accuracy" not in found["metrics"]


def test_against_another_run_at_its_best_checkpoint() -> None:
    best = read(Path("run/run.json"))["summary"]["best"]
    found = evaluated("--against", "run", "--checkpoint", "best")
    assert (found["against"], found["step"]) == ("run", best["step"])
    final = read(Path("run/evaluations/0000002.json"))
    ours = [pair["ours"]["text"] for pair in final["pairs"]]
    assert [pair["theirs"]["text"] for pair in found["pairs"]] != ours  # drawn with another seed


def test_against_a_model_with_another_tokenizer(tmp_path: Path, model_folder: ModelFolder) -> None:
    build(tmp_path / "other", vocabulary=300)
    found = evaluated("--against", str(tmp_path / "other"))
    assert len(found["pairs"]) == 6
    assert found["against"] == str(tmp_path / "other")
    # It has a byte for a token, so that each prompt is longer than for the policy.
    done = evaluate("--against", str(tmp_path / "other"), "--set", "prompts.max_length=20")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --against: ")
    assert "all 60 prompts are longer than prompts.max_length, 20 tokens" in done.stderr


def test_a_judge_with_position_bias_is_asked_in_both_orders() -> None:
    Path("place.py").write_text("def first(prompt, first, second):\n    return 0.8\n")
    Path("place.yaml").write_text("judge: {use: function, call: 'place:first'}\n")
    found = evaluated("--judge", "place.yaml")
    assert (found["win_rate"]["rate"], found["metrics"]["ties"]) == (0.5, 1.0)
    assert found["pairs"][0]["orders"] == [0.8, pytest.approx(0.2)]
    done = evaluate("--judge", "place.yaml")
    assert "The judge leans to the answer shown first" in done.stdout


def test_a_stopped_evaluation_goes_on_where_it_was() -> None:
    Path("weary.py").write_text(
        "from pathlib import Path\n"
        "from prefloop import StopRun\n"
        "def score(prompt, completion):\n"
        "    if not Path('awake').exists():\n"
        "        raise StopRun('the budget is spent')\n"
        "    return len(completion)\n"
    )
    Path("weary.yaml").write_text("judge: {use: function, score: 'weary:score'}\n")
    done = evaluate("--judge", "weary.yaml")
    assert done.exit_code == 130
    assert done.stderr == "Stopped: the budget is spent. The same command goes on from here.\n"
    assert not list(Path("run/evaluations").glob("final*"))
    Path("awake").touch()
    assert evaluate("--judge", "weary.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--against", "nowhere"), "--against: model 'nowhere': there is no such folder."),
        (("--checkpoint", "7"), "'run' has no checkpoint 7. It has checkpoints of 1, 2."),
        (("--checkpoint", "bst"), "--checkpoint: must be the number of a step, or best, not 'bst'."),
        (("--judge", "rul"), "judge: there is no judge 'rul'. Did you mean 'rule'?"),
        (("--prompts", "prompt.jsonl"), "--prompts: there is no file or folder 'prompt.jsonl', and it is "),
        (
            ("--prompts", "other.jsonl"),
            "evaluation.answer_column: other.jsonl:1 has nothing in a column 'answer'. ",
        ),
        (
            ("--set", "loss.beta=1"),
            "--set loss.beta=1: has no effect here: only judge, evaluation, prompts, ",
        ),
        (
            ("--set", "judge.lenght=longer"),
            "--set judge.lenght=longer: there is no such option. Did you mean ",
        ),
        (
            ("--output", "prompts.jsonl"),
            "prompts.jsonl: exists already. Give another --output, or remove it.",
        ),
        (("--output", "no/such/file.json"), "cannot write to 'no/such"),
    ],
)
def test_errors_are_one_line(arguments: Sequence[str], problem: str) -> None:
    Path("other.jsonl").write_text('{"prompt": "Say it."}\n')
    before = sorted(Path().rglob("*"))
    done = evaluate(*arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {problem}")
    if "no/such" not in line:
        assert sorted(Path().rglob("*")) == before


def test_a_folder_without_a_run_is_named() -> None:
    done = CliRunner().invoke(main, ["eval", "runs"])
    assert (done.exit_code, done.stderr) == (
        2,
        "error: 'runs' holds no run: there is no run.json in it.\n",
    )


def test_a_run_that_has_not_ended_has_only_checkpoints() -> None:
    Path("run/adapters.safetensors").unlink()
    done = evaluate()
    assert done.stderr == (
        "error: 'run' has no adapters.safetensors, as it has not ended: give --checkpoint. "
        "It has checkpoints of 1, 2.\n"
    )
    assert evaluate("--checkpoint", "2").exit_code == 0


def test_damaged_adapters_are_named() -> None:
    Path("run/adapters.safetensors").write_bytes(b"torn")
    done = evaluate()
    assert done.exit_code == 2
    assert done.stderr.startswith("error: 'run': 'run/adapters.safetensors' is damaged: ")


def test_prompts_that_have_changed_are_not_taken_for_held_out_ones(trained: Path) -> None:
    source = trained / "prompts.jsonl"
    source.write_text(PROMPTS + '{"prompt": "One more.", "answer": "1"}\n')
    try:
        done = evaluate()
        assert done.exit_code == 2
        assert "are not those that 'run' was trained on, so which it held out cannot be told." in done.stderr
        assert evaluate("--prompts", "prompts.jsonl").exit_code == 0
    finally:
        source.write_text(PROMPTS)


def test_a_run_without_held_out_prompts_is_refused(tmp_path: Path) -> None:
    training = {"batch_size": 4, "iters": 1}
    train(load_config({**SETTINGS, "training": training, "evaluation": {"held_out": 0}, "output": "blind"}))
    done = CliRunner().invoke(main, ["eval", "blind"])
    assert done.stderr == "error: 'blind' held no prompts out: give some with --prompts.\n"
    assert CliRunner().invoke(main, ["eval", "blind", "--prompts", "prompts.jsonl"]).exit_code == 0


def test_settings_of_a_judge_that_is_not_asked_are_refused() -> None:
    judge = ["--set", "evaluation.judge={use: rule, length: shorter}"]
    assert evaluate(*judge).exit_code == 0
    done = evaluate(*judge, "--set", "judge.length=shorter")
    assert done.exit_code == 2
    assert "--set judge: has no effect here: 'run' is evaluated by its evaluation.judge." in done.stderr


def test_help_is_quick() -> None:
    heavy = {"mlx", "mlx_lm", "transformers", "datasets", "numpy"}
    code = (
        "import sys; from prefloop.cli import main\n"
        "main(['eval', '--help'], standalone_mode=False)\n"
        f"assert not {heavy} & set(sys.modules), sorted({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_checks_of_the_report_stand_below_the_table(here: Path) -> None:
    """A policy that repeats itself has collapsed beside its start, and not beside another model."""
    prompts = [Prompt((1,), str(i)) for i in range(8)]
    great = Completion((5,) * 9, "great " * 9, stopped=False)
    other = [Completion(tuple(range(9, 18)), "Fine.", stopped=False)] * 8
    pairs = [Pair(prompt, great, answer) for prompt, answer in zip(prompts, other, strict=True)]
    found = Evaluation(2, wilson(8, 8), completion_metrics([great] * 8), pairs)
    (text,) = (said for said in checks(here / "run", found) if said.startswith("The policy may"))
    assert "distinct-1 went from 0.12 to 0.01" in text and "given to 100% of the held-out prompts" not in text
    assert not any("collapsed" in said for said in checks(here / "run", evolve(found, against="m/other")))
