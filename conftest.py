"""Runs the Python and YAML blocks of README.md and docs/*.md: ``pytest docs README.md``.

The blocks of a page share a namespace and an empty folder. A block whose first line is a comment that
names a file, such as ``# taste.py``, is written there as well. A YAML block is a configuration or part of
one, and must load; what the page's Python blocks register is known to it by name.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

from prefloop import load_config
from prefloop.cpu import blas
from prefloop.registry import KINDS, Provider, Registry

blas.use_fastest()  # before any block imports mlx

DISTRIBUTION = "prefloop-judge-near-length"
"""Whose the components are that a page's Python blocks register."""
NEEDED = {"model": "model: embedded:policy\n", "prompts": "prompts: embedded:prompts\n"}


def _enter(namespace: dict[str, Any]) -> None:
    namespace["_home"] = Path.cwd()
    namespace["_folder"] = tempfile.TemporaryDirectory()
    os.chdir(namespace["_folder"].name)


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["_home"])
    namespace["_folder"].cleanup()


def _run_python(example: Example) -> None:
    named = re.match(r"# (\w+\.py)\n", example.parsed)
    if named:
        Path(named[1]).write_text(example.parsed, encoding="utf-8")
    PythonEvaluator()(example)


def _load_yaml(example: Example) -> None:
    missing = (line for key, line in NEEDED.items() if not re.search(rf"^{key}:", example.parsed, re.M))
    file = Path("block.yaml")
    file.write_text(example.parsed + "".join(missing), encoding="utf-8")
    own_files = re.search(r"^plugins: .*\bfiles:", example.parsed, re.M)  # then the page registers nothing
    load_config(file, registry=None if own_files else _registry(example.namespace))


def _registry(namespace: dict[str, Any]) -> Registry:
    """The installed plugins, and those that are defined on the page."""
    registry = Registry()
    for kind in KINDS.values():
        for name, target in namespace[kind.hook]().items() if kind.hook in namespace else ():
            registry.providers.append(Provider(kind.name, name, DISTRIBUTION, "0", target))
    return registry


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("python", _run_python), CodeBlockParser("yaml", _load_yaml)],
    patterns=["README.md", "docs/*.md"],
    excludes=["*/*/README.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
