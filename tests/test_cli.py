"""The command line, as its user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from prefloop import open_run
from prefloop.cli import main
from support.tiny_models import ModelFolder

PROMPTS = [{"prompt": f"What does animal number {i} say?"} for i in range(8)]


def prefloop(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefloop", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def mlx_lm(*arguments: str) -> str:
    command = [sys.executable, "-m", "mlx_lm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    file = tmp_path / "my.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return file.name


def test_the_dry_run_checks_every_gradient_and_writes_nothing(tmp_path: Path) -> None:
    done = prefloop("train", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a gradient reaches each of 42 tensors; the reference stays" in done.stdout
    assert "Nothing was written." in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_dry_run_does_not_ask_a_person(tmp_path: Path) -> None:
    done = prefloop("train", "--dry-run", "--set", "judge=human", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a person, who is not asked now" in done.stdout


def test_the_dry_run_prepares_who_is_asked_beside_a_person(tmp_path: Path) -> None:
    judge = "judge={use: cascade, members: [{use: llm, model: ./no-such-folder}, human]}"
    done = prefloop("train", "--dry-run", "--set", judge, folder=tmp_path)
    assert done.returncode == 2
    assert "judge: members.0: model './no-such-folder': there is no such folder." in done.stderr


def test_the_dry_run_refuses_equal_completions(tmp_path: Path) -> None:
    done = prefloop("train", "--dry-run", "--set", "sampler.temperature=0", folder=tmp_path)
    assert done.returncode == 2
    assert "both completions of every prompt come out equal" in done.stderr
    assert "Raise sampler.temperature" in done.stderr


def test_report_to_adds_observers_that_the_run_keeps(tmp_path: Path, prompts: str) -> None:
    given = f"prompts: {prompts}\njudge: {{use: rule, length: longer}}\nobservers: [report]\n"
    (tmp_path / "my.yaml").write_text(
        given + "model: embedded:policy\ntraining: {iters: 1, batch_size: 2}\noutput: run\n"
    )
    done = prefloop("train", "my.yaml", "--report-to", "report, progress", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = open_run(tmp_path / "run").settings["observers"]
    assert [observer["use"] for observer in kept] == ["prefloop:report", "prefloop:progress"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--report-to", "reprot"), "--report-to: there is no observer 'reprot'. Did you mean 'report'?"),
        (("--resume", "run", "--report-to", "report"), "--report-to goes with a new run"),
    ],
)
def test_report_to_refuses_what_it_cannot_do(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(main, ["train", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr


def test_report_to_names_the_package_of_trackers_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLOOP_DISABLE", "prefloop-trackers")
    monkeypatch.setattr("prefloop.cli.reporting.TRACKERS", "prefloop-of-nobody")
    done = CliRunner().invoke(main, ["train", "--report-to", "wandb"])
    assert done.exit_code == 2
    assert (
        "there is no observer 'wandb'. Trackers come with a package of their own: pip install" in done.stderr
    )


@pytest.mark.parametrize("where", ["prefloop.cpu.blas.use_fastest", "prefloop.model.policy.load_model"])
def test_ctrl_c_while_a_run_starts_is_130_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where, interrupt)
    done = CliRunner().invoke(main, ["train"])
    assert (done.exit_code, done.stderr) == (130, "\nStopped.\n")
    assert list(tmp_path.iterdir()) == []


HOLD = """
import fcntl, os, time
lock = open("run/.lock", "ab", buffering=0)
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(b"%d" % os.getpid())
print(flush=True)
time.sleep(60)
"""


def test_a_process_that_works_on_a_run_is_asked_to_end(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for manifest, says in (
        (None, "'run' holds no run: there is no run.json in it."),
        ({"status": "running", "summary": {}}, "'run' is not going on."),
    ):
        if manifest:
            (tmp_path / "run" / "run.json").write_text(json.dumps(manifest))
        done = prefloop("runs", "stop", "run", folder=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {says}\n")
    holder = subprocess.Popen([sys.executable, "-c", HOLD], cwd=tmp_path, stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline()
    lock = tmp_path / "run" / ".lock"
    number = lock.read_bytes()
    for damaged in (b"", b"-1", b"x"):
        lock.write_bytes(damaged)
        done = prefloop("runs", "stop", "run", folder=tmp_path)
        says = "'run' is going on, but which process it is cannot be told."
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {says}\n")
    lock.write_bytes(number)
    done = prefloop("runs", "stop", "run", "--wait", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "'run' is interrupted.\n", "")
    assert holder.wait() == -signal.SIGTERM
    holder.stdout.close()


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_with_a_checkpoint(tmp_path: Path) -> None:
    settings = ["training.iters=5000", "evaluation.held_out=0", "output=run"]
    command = [sys.executable, "-m", "prefloop", "train", *(f"--set={text}" for text in settings)]
    training = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "run"
    while not (run / "metrics.jsonl").is_file():
        assert training.poll() is None
        time.sleep(0.1)
    done = prefloop("runs", "stop", "run", "--wait", "--json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"run": "run", **open_run(run).manifest}
    assert training.wait() == 130
    assert max(open_run(run).checkpoints()) == open_run(run).summary["steps"] < 5000


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma"])
@pytest.mark.parametrize("kind", ["lora", "dora", "full", "4bit"])
def test_other_architectures_train_and_what_is_written_generates(
    model_folder: ModelFolder, tmp_path: Path, prompts: str, family: str, kind: str
) -> None:
    """The same command, another model folder, one's own prompts, the LLM judge."""
    model = str(model_folder(family))
    settings = {
        "model": f"{{path: {model}, quantize: {'4bit' if kind == '4bit' else 'none'}}}",
        "adapter.type": "lora" if kind == "4bit" else kind,
        "adapter.rank": "4",
        "prompts": prompts,
        "judge": "{use: llm, model: 'embedded:judge', system: 'Prefer the warmer, friendlier answer.'}",
        "sampler.max_completion_length": "8",
        "training": "{batch_size: 2, iters: 2}",
        "evaluation.held_out": "0",
        "output": "out",
    }
    (tmp_path / "config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in _nested(settings).items()))
    done = prefloop("train", "config.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "out"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"

    said = ("--prompt", "Hi", "--max-tokens", "3")
    if kind == "full":
        assert "Generation: " in mlx_lm("generate", "--model", str(run / "model"), *said)
    elif kind == "4bit":  # the adapters go onto the same 4-bit weights, which mlx_lm makes with convert
        four = str(tmp_path / "four")
        mlx_lm("convert", "--hf-path", model, "--mlx-path", four, "-q", "--q-bits", "4")
        assert "Generation: " in mlx_lm("generate", "--model", four, "--adapter-path", str(run), *said)
    else:
        assert "Generation: " in mlx_lm("generate", "--model", model, "--adapter-path", str(run), *said)
        whole = str(tmp_path / "whole")
        mlx_lm("fuse", "--model", model, "--adapter-path", str(run), "--save-path", whole)
        assert "Generation: " in mlx_lm("generate", "--model", whole, *said)


def _nested(settings: dict[str, str]) -> dict[str, str]:
    """``a.b: c`` as one flow mapping for each section."""
    sections: dict[str, list[str]] = {}
    plain: dict[str, str] = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        if name:
            sections.setdefault(section, []).append(f"{name}: {value}")
        else:
            plain[key] = value
    return plain | {section: f"{{{', '.join(parts)}}}" for section, parts in sections.items()}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["online_dpo", "xpo"])
def test_the_quick_start_learns_what_its_judge_prefers(tmp_path: Path, algorithm: str) -> None:
    done = prefloop("train", "--set", f"algorithm={algorithm}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / f"{algorithm}-policy-1"
    summary = json.loads((run / "run.json").read_text())["summary"]
    before, after = summary["win_rate"]["before"], summary["win_rate"]["after"]
    assert abs(before["rate"] - 0.5) < 5 * 0.5 / before["pairs"] ** 0.5  # five standard errors
    assert after["rate"] > 0.85
    assert after["low"] > before["high"]
    assert summary["accuracy"]["after"] > 0.5
    for text in (
        "held-out prompts the judge preferred",
        "before  ",
        "after   ",
        f"The run is in runs/{run.name}",
    ):
        assert text in done.stdout
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("exploration_bonus" in step for step in steps) == (algorithm == "xpo")
