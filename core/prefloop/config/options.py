"""What the options of a class are, and how their types read in words.

They are the fields of an attrs class; for an optimizer or a schedule also the parameters of what it names.
"""

from __future__ import annotations

import collections.abc
import inspect
import sys
import types
import typing
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from attrs import NOTHING, Factory, field, frozen

from prefloop.components import shorthand_of
from prefloop.deprecated import former_names
from prefloop.errors import UserError
from prefloop.registry import KINDS

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KIND_OF: Mapping[Any, str] = {kind.protocol: kind.name for kind in KINDS.values()}
"""A field with one of these types takes a component of that kind."""

# An annotation may use names that are imported for type checkers only, as linters ask for.
_COMMON_NAMES = {
    **vars(collections.abc),
    **vars(typing),
    **{protocol.__name__: protocol for protocol in KIND_OF},
}


@frozen
class Option:
    """One option: its name in the file, its type, and what is known about it."""

    name: str
    type: Any
    default: Any
    """An attrs default: a value, a `Factory`, or NOTHING where the option is required."""
    help: str = ""
    argument: str = ""
    """Its name in the constructor."""
    attribute: attrs.Attribute[Any] | None = field(default=None, repr=False)
    """The field; None for a parameter of what an optimizer or a schedule names."""
    empty: str | None = None
    """What null and an empty text stand for."""
    formerly: tuple[str, ...] = ()
    """Names that it had, which still work."""
    former_values: Mapping[str, Any] = field(factory=dict)
    """Values that it had, which still work, with what they are now."""

    @property
    def required(self) -> bool:
        return self.default is NOTHING

    @property
    def default_value(self) -> Any:
        """The default; NOTHING where there is none, or where it takes an instance to tell."""
        default = self.default
        if not isinstance(default, Factory):  # type: ignore[arg-type]
            return default
        return NOTHING if default.takes_self else default.factory()


def options_of(cls: type) -> dict[str, Option]:
    """The options of a class by name; a class that is not attrs has none.

    Raises `UserError` where a type cannot be resolved.
    """
    return dict(_options_of(cls)) if attrs.has(cls) else {}


@cache
def _options_of(cls: type) -> dict[str, Option]:
    return {f.name: _option(cls, f) for f in attrs.fields(cls) if _is_option(f)}


def option_called(name: str, options: Mapping[str, Option]) -> Option | None:
    """The option that has this name, or had it."""
    return options.get(name) or next((o for o in options.values() if name in o.formerly), None)


def _is_option(attribute: attrs.Attribute[Any]) -> bool:
    return attribute.init and not attribute.name.startswith("_") and attribute.metadata.get("option", True)


def _option(cls: type, attribute: attrs.Attribute[Any]) -> Option:
    return Option(
        attribute.name,
        _resolve(cls, attribute),
        attribute.default,
        help=attribute.metadata.get("help", ""),
        argument=attribute.alias or attribute.name,
        attribute=attribute,
        empty=attribute.metadata.get("empty"),
        formerly=former_names(attribute),
        former_values=attribute.metadata.get("former_values", {}),
    )


def _resolve(cls: type, attribute: attrs.Attribute[Any]) -> Any:
    """The type of a field, where it is text evaluated in the module of the class that declares it."""
    if attribute.type is None:
        return Any
    owner = next((c for c in cls.__mro__ if _declares(c, attribute.name)), cls)
    module = sys.modules.get(owner.__module__)
    names = {**_COMMON_NAMES, **(vars(module) if module else {}), owner.__name__: owner}
    holder = types.SimpleNamespace(__annotations__={attribute.name: attribute.type})
    try:
        return typing.get_type_hints(holder, names)[attribute.name]
    except (NameError, AttributeError, TypeError) as error:
        raise UserError(
            f"the type of option '{attribute.name}' of {cls.__module__}.{cls.__qualname__} "
            f"cannot be resolved: {error}."
        ) from error


def _declares(cls: type, name: str) -> bool:
    return attrs.has(cls) and any(f.name == name and not f.inherited for f in attrs.fields(cls))


def mlx_options(function: Callable[..., Any]) -> dict[str, Option]:
    """The parameters, besides the learning rate, of an optimizer or a schedule of mlx."""
    from prefloop import optim  # brings in mlx

    constructor = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    hints = typing.get_type_hints(constructor)
    return {
        p.name: Option(
            p.name,
            _parameter_type(hints.get(p.name, Any), p.default),
            None if p.name in optim.LENGTHS else NOTHING if p.default is p.empty else p.default,
        )
        for p in inspect.signature(function).parameters.values()
        if p.name not in optim.LEARNING_RATE and p.kind is not p.VAR_KEYWORD
    }


def _parameter_type(hint: Any, default: Any) -> Any:
    """A list with a default of two numbers takes two numbers."""
    if get_origin(hint) is list and isinstance(default, list):
        return tuple[tuple(get_args(hint) * len(default))]  # type: ignore[misc]
    return hint


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def kind_of(hint: Any) -> str | None:
    """The kind of component that a type takes, ``Judge`` as well as ``Judge | None``."""
    return next((KIND_OF[m] for m in members(hint) if m in KIND_OF), None)


def section_of(hint: Any) -> type | None:
    """The attrs class that a type takes, ``ScheduleConfig`` as well as ``ScheduleConfig | None``."""
    return next((m for m in members(hint) if isinstance(m, type) and attrs.has(m)), None)


def element_of(hint: Any) -> Any:
    """The type of the elements of a list or of the values of a mapping; None where it is neither."""
    for member in members(hint):
        if is_list(member):
            return next(iter(get_args(member)), Any)
        if is_mapping(member):
            return (*get_args(member), Any, Any)[1]
    return None


def choices_of(hint: Any) -> dict[Any, Any]:
    """What may be written for a Literal or an Enum, with what it stands for; empty for any other type."""
    if get_origin(hint) is Literal:
        return {value: value for value in get_args(hint)}
    is_enum = isinstance(hint, type) and issubclass(hint, Enum)
    return {member.value: member for member in hint} if is_enum else {}


_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping)


def is_list(hint: Any) -> bool:
    return (get_origin(hint) or hint) in _LISTS


def has_fixed_length(hint: Any) -> bool:
    """Whether a type of list says how long it is, as ``tuple[float, float]`` does."""
    return get_origin(hint) is tuple and Ellipsis not in get_args(hint)


def is_mapping(hint: Any) -> bool:
    return (get_origin(hint) or hint) in _MAPPINGS


_WORDS: Mapping[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "values true or false"),
    str: ("text", "texts"),
    type(None): ("null", "nulls"),
    Any: ("a value", "values"),
}
"""Types in words, as one and as several."""


def with_article(kind: str) -> str:
    """A kind of component with its article: ``an observer``."""
    return f"{'an' if kind[0] in 'ao' else 'a'} {kind}"


def describe(hint: Any, *, plural: bool = False) -> str:
    """A type in words: ``a number or a list of numbers``."""
    alternatives = [_in_words(member)[plural] for member in members(hint)]
    return " or ".join(dict.fromkeys(alternatives))


def _in_words(hint: Any) -> tuple[str, str]:
    """A type that is no union, in words, as one and as several."""
    if hint in _WORDS:
        return _WORDS[hint]
    if hint in KIND_OF:
        kind = KINDS[KIND_OF[hint]]
        return f"{with_article(kind.name)} (a name, or a mapping with 'use')", kind.plural
    if is_list(hint):
        elements = _elements_in_words(hint)
        return f"a list{elements}", f"lists{elements}"
    if is_mapping(hint):
        return "a mapping", "mappings"
    if isinstance(hint, type) and attrs.has(hint):
        return "a mapping or text" if shorthand_of(hint) else "a mapping", "mappings"
    if isinstance(hint, type) and issubclass(hint, PurePath):
        return "a path", "paths"
    choices = [str(choice) for choice in choices_of(hint)]
    name = ("one of " * (len(choices) > 1)) + ", ".join(choices) or str(getattr(hint, "__name__", hint))
    return name, name


def _elements_in_words(hint: Any) -> str:
    """`` of texts``; empty where the elements may be anything."""
    arguments = get_args(hint)
    if not arguments:
        return ""
    count = f"{len(arguments)} " if has_fixed_length(hint) else ""
    return f" of {count}{describe(arguments[0], plural=True)}"
