"""The model card of a run, for the Hub: written from the run's files, without paths of this machine.

No text that people or models wrote is in it but the judge's rubric.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen
from huggingface_hub import ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prefloop.beginning import beginning_of, begun
from prefloop.embedded import PREFIX, local_path
from prefloop.model.loading import looks_like_hub_id
from prefloop.runs.view import open_run
from prefloop_plugins.commands.exports.picture import Picture
from prefloop_plugins.commands.exports.trained import Trained
from prefloop_plugins.report.reading import read_run
from prefloop_plugins.report.records import RunFiles
from prefloop_plugins.report.words import KEY_SETTINGS, plural, right_answers_sentence, win_rate_sentences

UNKNOWN = "unknown: check it"
RUBRIC = "judge.system"
_TEMPLATES = Path(__file__).parent / "templates"
_VERSIONS = ("prefloop", "mlx", "mlx-lm")
_NAMES_FILES = ("path", "prompts", "model", "call", "score", "resume_from")
"""The last keys of settings whose values may be paths."""
_LICENCE = re.compile(r"^license:\s*['\"]?([\w.-]+)", re.MULTILINE)


@frozen
class Card:
    """The text of ``README.md``, and what it lacks that only a person knows."""

    text: str
    base: str | None
    licence: str | None


def write_card(
    run: Path, trained: Trained, *, repo: str, what: str, base: str | None, picture: Picture | None
) -> Card:
    """The card of what is uploaded as `what` to `repo`. `base` is the model on the Hub that it came from."""
    files = read_run(run)
    with begun(beginning_of(open_run(run).manifest)):
        settings = dict(_public(files))
    licence = licence_of(trained.policy.loaded.folder, base)
    data = ModelCardData(
        base_model=base,
        datasets=_datasets(files) or None,
        library_name="peft" if what == "peft" else "mlx",
        license=licence,
        pipeline_tag="text-generation",
        tags=["prefloop", "preference-optimization", "online-dpo", "mlx", "mlx-lm"],
    )
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, autoescape=False
    )
    text = environment.get_template("card.md.jinja").render(
        name=repo.rpartition("/")[2],
        base_line=f"A version of [{base}](https://huggingface.co/{base})."
        if base
        else "Its base is not on the Hub.",
        snapshot=trained.snapshot.label,
        results=list(_results(files, trained)),
        picture=picture,
        facts=[(key, _cell(value)) for key, value in _facts(files, settings, trained)],
        rubric=_quoted(files.settings.get(RUBRIC, "")),
        settings=[(key, _cell(value)) for key, value in settings.items() if key != RUBRIC],
        usage=_usage(repo, what, base),
        licence=_licence_words(licence, base),
    )
    return Card(f"---\n{data.to_yaml()}\n---\n\n{text}", base, licence)


def public_name(value: str) -> str:
    """A value that may be a path, without the folders of this machine; a name on the Hub stays whole."""
    if value.startswith(PREFIX) or (looks_like_hub_id(value) and not local_path(value).exists()):
        return value
    return Path(value.rstrip("/")).name if "/" in value or "\\" in value else value


def licence_of(folder: Path, base: str | None) -> str | None:
    """The licence of a base model, from its own card or configuration, or else from the Hub."""
    readme, config = folder / "README.md", folder / "config.json"
    if readme.is_file():
        head = readme.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0]
        if found := _LICENCE.search(head):
            return found[1]
    named = json.loads(config.read_bytes()).get("license")
    return named if isinstance(named, str) else _licence_on_hub(base)


def _licence_on_hub(base: str | None) -> str | None:
    from huggingface_hub import HfApi

    try:
        card = HfApi().model_info(base, timeout=5).card_data if base else None
    except Exception:  # whatever the libraries raise where there is no network, or no such model
        return None
    return card.get("license") if card else None


def _licence_words(licence: str | None, base: str | None) -> str:
    if licence:
        return f"That of the base model: {licence}."
    return f"That of the base model, {base or 'whichever it is'}, which is {UNKNOWN}."


def _public(files: RunFiles) -> Iterator[tuple[str, str]]:
    """The settings that most readers want to know, with names in the place of paths."""
    for key, value in files.settings.items():
        if key in KEY_SETTINGS or (key.endswith(".path") and key.startswith("prompts.")):
            yield key, public_name(value) if key.rpartition(".")[2] in _NAMES_FILES else value


def _datasets(files: RunFiles) -> list[str]:
    """The training prompts that are on the Hub."""
    sources = [v for k, v in files.settings.items() if k.startswith("prompts.") and k.endswith("path")]
    return [s for s in sources if looks_like_hub_id(s) and public_name(s) == s and not s.startswith(PREFIX)]


def _results(files: RunFiles, trained: Trained) -> Iterator[str]:
    """What the run's own evaluations say of the policy that is exported."""
    measured = next((e for e in files.evaluations if e.step == trained.snapshot.step and e.step > 0), None)
    if measured is None:
        yield "The run did not evaluate this policy, so there is no win rate."
        return
    before = files.before.win_rate if files.before else None
    best = trained.snapshot.step if trained.snapshot.step == files.best_loaded else None
    yield from win_rate_sentences(before, measured.win_rate, best)
    if files.before and {"accuracy"} <= files.before.metrics.keys() & measured.metrics.keys():
        yield right_answers_sentence(files.before.metrics["accuracy"], measured.metrics["accuracy"])


def _facts(files: RunFiles, settings: dict[str, str], trained: Trained) -> Iterator[tuple[str, str]]:
    prompts = [v for k, v in settings.items() if k.startswith("prompts.") and k.endswith("path")]
    algorithm, judge = (files.settings.get(f"{k}.use", "").rpartition(":")[2] for k in ("algorithm", "judge"))
    teacher = settings.get("judge.model")
    yield "algorithm", algorithm
    yield "prompts", ", ".join(prompts)
    yield "judge", f"{judge} ({teacher})" if teacher else judge
    yield "labelled pairs", f"{sum(j.verdict.prefers_first is not None for j in files.judged):,}"
    yield "steps", plural(trained.snapshot.step, "step")
    versions = files.about("versions") or {}
    yield "versions", ", ".join(f"{name} {versions[name]}" for name in _VERSIONS if name in versions)


def _usage(repo: str, what: str, base: str | None) -> str:
    if what == "peft":
        return _python(
            "from peft import AutoPeftModelForCausalLM\n\n"
            f'model = AutoPeftModelForCausalLM.from_pretrained("{repo}")  # loads {base} as well'
        )
    if what == "fused":
        return _python(f'from mlx_lm import load\n\nmodel, tokenizer = load("{repo}")') + _asking()
    return (
        _python(
            "from huggingface_hub import snapshot_download\nfrom mlx_lm import load\n\n"
            f'model, tokenizer = load("{base}", adapter_path=snapshot_download("{repo}"))'
        )
        + _asking()
    )


def _asking() -> str:
    return "\n\n" + _python(
        "from mlx_lm import generate\n\n"
        'messages = [{"role": "user", "content": "Hello"}]\n'
        "prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)\n"
        "print(generate(model, tokenizer, prompt=prompt))"
    )


def _python(code: str) -> str:
    return f"```python\n{code}\n```"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
