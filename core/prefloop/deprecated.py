"""What has moved or been renamed, which goes on working for a version and says what it is now."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # `prefloop` itself imports this module, and Ctrl-C shows a traceback until it is there
    import attrs

C = TypeVar("C", bound=type)


class FormerKeyWarning(DeprecationWarning):
    """A configuration has a key or value under a former name. The command line prints it as a line."""


def moved(module: str, names: Mapping[str, str], *, depth: int = 3) -> Callable[[str], Any]:
    """A module's ``__getattr__`` for `names` that have moved: from each to where it is, ``module:name``.

    The name ``*`` stands for every name that has no entry of its own, and takes a module. `depth` is how many
    calls lie between the warning and whoever asked for the name: one more where another function comes first.
    """

    def get(name: str) -> Any:
        target = names.get(name)
        if target is None and "*" in names and not name.startswith("__"):
            target = f"{names['*']}:{name}"
        if target is None:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        home, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(home), attribute)
        _warn(f"{module}.{name} is now {home}.{attribute}", depth)
        return found

    return get


def former_names(field: attrs.Attribute[Any]) -> tuple[str, ...]:
    """What a field was called before, as its metadata say in ``formerly``: one name, or several."""
    names = field.metadata.get("formerly", ())
    return (names,) if isinstance(names, str) else tuple(names)


def with_former_names(cls: C) -> C:
    """Let the fields of an attrs class be given by keyword, and be read, under former names and values too.

    They are what the metadata of a field have in ``formerly`` and ``former_values``.
    """
    import attrs

    fields = attrs.fields(cls)
    former = {name: field.name for field in fields for name in former_names(field)}
    former_values = {field.name: field.metadata.get("former_values", {}) for field in fields}
    make = cls.__init__  # type: ignore[misc]

    @wraps(make)
    def init(self: Any, *args: Any, **given: Any) -> None:
        for name, value in list(given.items()):
            if name in former:
                given[former[name]] = given.pop(name)
                _warn(f"{cls.__name__}.{name} is now {former[name]}")
            elif isinstance(value, str) and value in former_values.get(name, ()):
                given[name] = former_values[name][value]
                _warn(f"{cls.__name__}.{name}={value!r} is now {given[name]!r}")
        make(self, *args, **given)

    def read(self: Any, name: str) -> Any:
        if name not in former:
            raise AttributeError(f"'{cls.__name__}' object has no attribute '{name}'")
        _warn(f"{cls.__name__}.{name} is now {former[name]}")
        return getattr(self, former[name])

    cls.__init__ = init  # type: ignore[misc]
    cls.__getattr__ = read  # type: ignore[attr-defined]
    return cls


def _warn(message: str, depth: int = 3) -> None:
    """To whoever called what calls this."""
    warnings.warn(f"{message}; the old name goes in a later version.", DeprecationWarning, stacklevel=depth)
