"""What can be trained and on what: models and data that lie on this machine, with sizes and first rows."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from prefloop import UserError
from prefloop.embedded import PREFIX, local_path
from prefloop.settings import PromptsConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

DEPTH = 3
"""Folders below the working directory in which is looked for models and data."""
MOST = 200
ROWS = 5
CACHE = "Hub cache"
CELL = 400
"""Characters of a cell that are shown."""
DATA = {".jsonl", ".json", ".csv", ".parquet"}
SKIPPED = {"node_modules", "checkpoints", "evaluations", "labels", "site-packages"}


def machine() -> dict[str, Any]:
    """What the machine has: memory in all and free, in bytes."""
    memory = psutil.virtual_memory()
    return {"memory": memory.total, "free": memory.available, "cores": os.cpu_count()}


def models() -> list[dict[str, Any]]:
    """Models that need no download: embedded, in folders here, and in the Hub's cache, with bytes."""
    found = [_embedded("policy")]
    for folder in _folders(Path.cwd()):
        if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors")):
            found.append({"path": _relative(folder), "where": "folder", "bytes": _size(folder)})
    return found + _cached("model")


def data_sets() -> list[dict[str, Any]]:
    """Files of prompts here, and data sets in the Hub's cache."""
    found = [_embedded("prompts")]
    for folder in (Path.cwd(), *_folders(Path.cwd())):
        files = (file for file in sorted(folder.iterdir()) if file.suffix in DATA and file.is_file())
        skipped = ("config.json", "run.json", "tokenizer.json", "adapter_config.json", "metrics.jsonl")
        found += [
            {"path": _relative(file), "where": "file", "bytes": file.stat().st_size}
            for file in files
            if file.name not in skipped and not file.name.startswith("tokenizer")
        ]
    return found[:MOST] + _cached("dataset")


def preview(path: str, name: str | None = None, split: str = "train") -> dict[str, Any]:
    """The columns of a data file here, or of a data set in the Hub's cache, and its first rows, cut short.

    `name` and `split` choose among those of a data set. Raises `UserError` where it is not one of
    `data_sets`, or cannot be read.
    """
    from prefloop.prompts.rows import first_rows, read_rows

    where = {found["path"]: found["where"] for found in reversed(data_sets())}.get(path)
    if where is None:
        raise UserError(f"'{path}' is neither among the files in this folder nor in the Hub's cache.")
    config = PromptsConfig(path=path, name=name, split=split, limit=ROWS)
    found = first_rows(_snapshot(path), config) if where == CACHE else read_rows(config)
    rows = [{key: _cut(value) for key, value in row.values.items()} for row in found.rows]
    return {"columns": list(dict.fromkeys(key for row in rows for key in row)), "rows": rows}


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= CELL else f"{text[:CELL]}…"


def _folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    with suppress(OSError):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.name in SKIPPED or not entry.is_dir(follow_symlinks=False):
                continue
            yield Path(entry.path)
            if depth > 1:
                yield from _folders(Path(entry.path), depth - 1)


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd()))


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.glob("*") if file.is_file())


def _embedded(name: str) -> dict[str, Any]:
    path = f"{PREFIX}{name}"
    return {"path": path, "where": "comes with prefloop", "bytes": _size(local_path(path))}


def _cached(kind: str) -> list[dict[str, Any]]:
    repos = [repo for repo in _cache() if repo.repo_type == kind]
    first = sorted(repos, key=lambda repo: str(repo.repo_id))[:MOST]
    return [{"path": repo.repo_id, "where": CACHE, "bytes": repo.size_on_disk} for repo in first]


def _snapshot(data_set: str) -> Path:
    """The folder of a data set in the Hub's cache: its version "main", or else the newest."""
    repos = (repo for repo in _cache() if (repo.repo_type, repo.repo_id) == ("dataset", data_set))
    versions = [version for repo in repos for version in repo.revisions]
    if not versions:
        raise UserError(f"the data set '{data_set}' in the Hub's cache has no files.")
    best = max(versions, key=lambda version: ("main" in version.refs, version.last_modified))
    return Path(best.snapshot_path)


def _cache() -> Collection[Any]:
    """What the Hub's cache holds."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir().repos
    except CacheNotFound:
        return ()
