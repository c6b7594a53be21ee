"""What a run depends on besides its settings, so that a change is noticed when the run goes on.

Contents are compared by their SHA-256: every byte of the weights, tokenizers and templates of its models, of
the adapters that it starts from, of its judge's code and of its plugins' files; its prompts, as tokens, and
the other columns of their rows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from prefloop.components import Base, BaseBonus, BaseJudge, BaseLoss, BaseSampler, adapt
from prefloop.embedded import local_path
from prefloop.runs.checkpoint import read_state

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.runs.view import RunView
    from prefloop.types import Prompt

PROMPTS = "prompts"
_OF_MODELS = {".safetensors", ".json", ".jinja", ".model", ".txt", ".py"}


@frozen
class Change:
    """Something that a run depends on, as it was until `step` and as it is from then on."""

    what: str
    before: str
    after: str
    step: int


def dependencies(config: Config, training: Sequence[Prompt], held_out: Sequence[Prompt]) -> dict[str, str]:
    """The digest of everything that a run of `config` depends on, by the setting that names it."""
    files = [("plugins.files", file) for file in config.plugins.files]
    settings = [*settings_of_model(config), *_settings_of_components(config), *files]
    return prompt_digests(training, held_out) | content_digests(settings)


def content_digests(settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The digest of what each setting names, given with the path or Hub id that it has."""
    found = {}
    for setting, given in settings:
        name = Path(given).name if Path(given).is_absolute() else given  # the same in a copy elsewhere
        path = _found(given)
        found[f"{setting} '{name}'"] = content_digest(path) if path.exists() else "nothing"
    return found


def prompt_digests(training: Sequence[Prompt], held_out: Sequence[Prompt]) -> dict[str, str]:
    """The digests of a run's prompts and of the other columns of their rows."""
    columns = {f"columns beside the {PROMPTS}": training, "columns beside the held-out prompts": held_out}
    return {
        PROMPTS: fingerprint(training),
        "held-out prompts": fingerprint(held_out),
        **{name: _digest(prompt.fields for prompt in prompts) for name, prompts in columns.items()},
    }


def fingerprint(prompts: Sequence[Prompt]) -> str:
    """Equal for equal prompts in the same order: which ones a run is trained on."""
    return _digest([prompt.text, prompt.tokens] for prompt in prompts)


def recorded(run: RunView) -> dict[str, str]:
    """What the run in `run` depended on; of older versions, the prompts that its last checkpoint names."""
    found = run.manifest.get("depends_on")
    if isinstance(found, dict):
        return found
    saved = run.checkpoints()
    before = read_state(saved[max(saved)]).get(PROMPTS) if saved else None
    return {PROMPTS: before} if before else {}


def changed(before: Mapping[str, str], now: Mapping[str, str], step: int) -> list[Change]:
    """What is another than it was; what only one of the two knows of is none."""
    known = ((name, before[name], now[name]) for name in before if name in now)
    return [Change(name, old, new, step) for name, old, new in known if old != new]


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of what lies in a folder that belongs to a model. Raises `OSError`."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in _OF_MODELS and p.is_file())
        with ThreadPoolExecutor(4) as pool:
            return _digest(zip((p.name for p in files), pool.map(content_digest, files), strict=True))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def machine() -> dict[str, str]:
    """What the last bits depend on besides: the same numbers come out bit for bit where all this is equal."""
    import mlx.core as mx

    from prefloop.cpu import blas

    device = mx.device_info().get("device_name") or mx.default_device().type.name
    return {"mlx": importlib.metadata.version("mlx"), "device": str(device), **blas.described()}


def settings_of_model(config: Config) -> Iterator[tuple[str, str]]:
    """The settings that name what is trained, and what it is kept near, with what they name."""
    yield "model", config.model.path
    if config.reference not in ("base", "start", ""):
        yield "reference", config.reference
    if config.adapter.resume_from:
        yield "adapter.resume_from", config.adapter.resume_from


def _settings_of_components(config: Config) -> Iterator[tuple[str, str]]:
    for key, component in _components(config):
        yield from ((key, given) for given in component.depends_on())


def _components(config: Config) -> Iterator[tuple[str, Base]]:
    yield "sampler", adapt(config.sampler, BaseSampler)
    judges = config.judges | config.evaluation.named_judges
    yield from ((key, adapt(judge, BaseJudge)) for key, judge in judges.items())
    yield "loss", adapt(config.loss, BaseLoss)
    yield from ((f"bonuses.{i}", adapt(bonus, BaseBonus)) for i, bonus in enumerate(config.bonuses))


def _found(given: str) -> Path:
    """Where the content of a setting lies: that of a Hub id was downloaded when it was loaded."""
    from prefloop.model.adapters import ADAPTERS
    from prefloop.model.loading import looks_like_hub_id
    from prefloop.model.mlx_lm_internals import download_model

    path = local_path(given)
    if not path.exists() and looks_like_hub_id(given):
        return download_model(given)
    adapters = path / ADAPTERS
    return adapters if adapters.is_file() and not (path / "config.json").exists() else path


def _digest(records: Any) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record).encode())
    return digest.hexdigest()
