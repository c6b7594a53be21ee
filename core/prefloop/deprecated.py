"""Names that have moved, which go on working for a version and say where they are now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def moved(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for `names` that have moved: from each to where it is, ``module:name``.

    The name ``*`` stands for every name that has no entry of its own, and takes a module.
    """

    def get(name: str) -> Any:
        target = names.get(name)
        if target is None and "*" in names and not name.startswith("__"):
            target = f"{names['*']}:{name}"
        if target is None:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        home, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(home), attribute)
        warnings.warn(
            f"{module}.{name} is now {home}.{attribute}; the old name goes in a later version.",
            DeprecationWarning,
            stacklevel=2,
        )
        return found

    return get
