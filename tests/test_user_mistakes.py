"""Every mistake is said in one clear line, with exit code 2, and nothing is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prefloop import Policy, load_model
from prefloop.cli import main
from prefloop.config import AdapterConfig
from support.tiny_models import ModelFolder, build
from support.user_mistakes import FILE, MISTAKES, PROMPTS, RIGHT, Mistake, page

ALL = [mistake for group in MISTAKES.values() for mistake in group]
ROOT = Path(__file__).resolve().parent.parent
Listing = dict[str, tuple[int, int]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, model_folder: ModelFolder) -> Path:
    """The folder of models, right and wrong ones, that the configurations name."""
    from mlx_lm.utils import save

    folder = tmp_path_factory.mktemp("mistakes")
    model = shutil.copytree(model_folder("qwen3"), folder / "model")
    build(folder / "other-vocabulary", vocabulary=300)

    cut = shutil.copytree(model, folder / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])

    for file in shutil.copytree(model, folder / "no-tokenizer").glob("*token*"):
        file.unlink()

    config = shutil.copytree(model, folder / "perceptron") / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "perceptron"}))

    loaded = load_model(str(model), quantize="4bit")
    quantized = str(folder / "quantized")
    save(quantized, str(model), loaded.model, loaded.tokenizer, loaded.config, donate_model=False)

    adapters = folder / "adapters-of-rank-4"
    adapters.mkdir()
    Policy.load(str(model), AdapterConfig(rank=4)).save(adapters)
    return folder


@pytest.fixture
def here(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to run in, with the models and four prompts."""
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model)
    (tmp_path / "prompts.jsonl").write_text(PROMPTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(mistake: Mistake, here: Path) -> None:
    (here / FILE).write_text(mistake.text)
    for name, content in mistake.files.items():
        file = here / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def listing(folder: Path) -> Listing:
    """Every file below a folder, with its size and the time of its last change."""
    stats = {str(p.relative_to(folder)): p.lstat() for p in folder.rglob("*")}
    return {
        name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items() if "__pycache__" not in name
    }


def expected(mistake: Mistake, here: Path) -> re.Pattern[str]:
    text = "".join(f"error: {line}\n" for line in mistake.says.replace("{here}", str(here)).splitlines())
    return re.compile(re.escape(text).replace("…", ".+"))


def run(*arguments: str) -> int | str | None:
    """The exit code of the command line, run in this process to be quick."""
    with pytest.raises(SystemExit) as left:
        main([*arguments], prog_name="prefloop")
    return left.value.code


@pytest.mark.parametrize("mistake", ALL, ids=lambda m: m.wrong)
def test_each_mistake_gets_its_message_and_writes_nothing(
    mistake: Mistake, here: Path, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(mistake, here)
    before = listing(here), listing(models)
    assert run("train", *mistake.arguments) == 2
    said = capfd.readouterr()
    assert expected(mistake, here).fullmatch(said.err), said.err
    assert "Traceback" not in said.out
    assert (listing(here), listing(models)) == before


@pytest.mark.parametrize(
    "wrong", ["a misspelt option", "a prompt that is null", "a judge model that is not there"]
)
def test_a_mistake_in_a_separate_process_has_no_traceback(
    wrong: str, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mistake = next(m for m in ALL if m.wrong == wrong)
    make(mistake, here)
    before = listing(here)
    command = [sys.executable, "-m", "prefloop", "train", *mistake.arguments]
    cache = str(tmp_path_factory.mktemp("cache"))  # where the BLAS is
    environment = {**os.environ, "HOME": str(here), "XDG_CACHE_HOME": cache}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert expected(mistake, here).fullmatch(done.stderr), done.stderr
    assert listing(here) == before


def test_an_unknown_flag_is_refused(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = listing(here)
    assert run("train", "--dryrun") == 2
    assert "--dryrun" in capfd.readouterr().err
    assert listing(here) == before


def test_the_configuration_without_a_mistake_trains(here: Path) -> None:
    (here / FILE).write_text(RIGHT)
    assert run("train", FILE) == 0
    assert json.loads((here / "run" / "run.json").read_text())["status"] == "finished"


def test_braces_in_a_rubric_are_only_text(here: Path) -> None:
    rubric = "Prefer {prompt} over {} and {0}, {{first}} and {% if x %}, at 100 %s."
    judge = json.dumps(
        {"use": "llm", "model": "model", "system": rubric, "min_label_mass": 0, "tie_margin": 0}
    )
    (here / FILE).write_text(RIGHT.replace("judge: {use: rule, length: shorter}", f"judge: {judge}"))
    assert run("train", FILE) == 0
    judgements = [json.loads(line) for line in (here / "run" / "judgements.jsonl").read_text().splitlines()]
    assert [j["status"] for j in judgements if j["status"] == "error"] == []
    assert len(judgements) == 2
    assert rubric in (here / "run" / "config.yaml").read_text()


def test_mistakes_are_distinct_and_at_least_25() -> None:
    assert len({m.wrong for m in ALL}) == len(ALL) >= 25


def test_docs_mistakes_md_is_up_to_date() -> None:
    assert (ROOT / "docs" / "mistakes.md").read_text("utf-8") == page(), (
        "run: python tests/support/user_mistakes.py > docs/mistakes.md"
    )
