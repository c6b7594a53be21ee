"""Nodes to settings through cattrs: nothing is coerced, no key is ignored, every problem is kept."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import attrs
from cattrs import Converter

from prefloop.components import Algorithm, unfit
from prefloop.config.options import (
    KIND_OF,
    Option,
    choices_of,
    describe,
    element_of,
    has_fixed_length,
    is_list,
    is_mapping,
    kind_of,
    members,
    mlx_options,
    option_called,
    options_of,
    section_of,
)
from prefloop.config.schema import Config
from prefloop.config.yaml_nodes import (
    InvalidError,
    Node,
    Place,
    Problem,
    collected,
    in_words,
    plain_message,
    shortened,
)
from prefloop.errors import UserError, did_you_mean, guess
from prefloop.registry import KINDS
from prefloop.settings import OptimizerConfig, ScheduleConfig

if TYPE_CHECKING:
    from prefloop.config.components import ComponentLookup

Hook = Callable[[Node, Any], Any]
_SECRET = re.compile(r"(\w+_)?(key|token|password|secret)", re.IGNORECASE)
FLOAT32_MAX = 3.4028234663852886e38
"""What is larger is infinite where mlx computes with it."""


class _MisfitError(InvalidError):
    """A value of another type, as against one of the right type that is wrong in itself."""


class Structurer:
    """Builds values of any type from nodes. `structure` raises `InvalidError` with every problem found.

    `root` is the whole configuration, whose options an unknown key may have meant.
    """

    def __init__(self, components: ComponentLookup, root: Node | None = None) -> None:
        self.components = components
        self.root = root or Node({}, Place(""))
        self._converter = Converter(detailed_validation=False)
        for scalar in (int, float, bool, str):
            self._converter.register_structure_hook(scalar, self._scalar)
        for path in (PurePath, Path):  # cattrs has a hook of its own for Path
            self._converter.register_structure_hook(path, self._path)
        self._converter.register_structure_hook(Enum, self._choice)
        # The later one of these is registered, the sooner it is asked.
        hooks: list[tuple[Callable[[Any], bool], Hook]] = [
            (lambda hint: True, self._unsupported),
            (lambda hint: hint is Any, lambda node, _: node.plain),
            (lambda hint: get_origin(hint) is Literal, self._choice),
            (is_list, self._list),
            (is_mapping, self._mapping),
            (attrs.has, self._section),
            (lambda hint: hint in (OptimizerConfig, ScheduleConfig), self._named),
            (lambda hint: len(members(hint)) > 1, self._union),
            (lambda hint: hint in KIND_OF, self._component),
        ]
        for applies, hook in hooks:
            self._converter.register_structure_hook_func(applies, hook)

    def structure(self, node: Node, hint: Any) -> Any:
        if isinstance(node.value, Problem):
            raise InvalidError(node.value)
        return self._converter.structure(node, hint)

    def fill(self, node: Node, options: Mapping[str, Option]) -> dict[str, Any]:
        """The values of the options that a mapping gives, each checked by its own validator."""
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for key, child in (node.mapping or {}).items():
            if key not in options:
                problems.append(_unknown_key(child, key, options, _option_paths(self.root, self.components)))
                continue
            with collected(problems):
                values[key] = self._value(child, options[key])
        for option in options.values():
            if option.required and option.name not in (node.mapping or {}):
                problems.append(_missing(node, option))
        problems += _validate(node, options, values)
        if problems:
            raise InvalidError(*problems)
        return values

    def _value(self, node: Node, option: Option) -> Any:
        if option.empty is not None and node.value in (None, ""):
            return option.empty
        if node.value is None and option.default is None:
            return None
        return self.structure(node, option.type)

    def _section(self, node: Node, cls: type) -> Any:
        node = self.components.expand(node, cls)
        if node.mapping is None:
            hint = " Leave the key out to keep its defaults." if node.value is None else ""
            raise _misfit(node, cls, hint)
        return _construct(node, cls, self.fill(node, options_of(cls)))

    def _component(self, node: Node, protocol: Any) -> Any:
        node = self.components.expand(node, protocol)
        cls = self.components.class_of(node, KIND_OF[protocol])
        given = {key: child for key, child in (node.mapping or {}).items() if key != "use"}
        component = _construct(node, cls, self.fill(attrs.evolve(node, value=given), options_of(cls)))
        base = KINDS[KIND_OF[protocol]].base
        if protocol is not Algorithm and (problem := unfit(component, base)):
            raise InvalidError.at(node, f"{problem}.")
        return component

    def _named(self, node: Node, cls: type) -> Any:
        """An optimizer or a schedule: its own fields, and the parameters of what `use` names."""
        node = self.components.expand(node, cls)
        if node.mapping is None:
            raise InvalidError.at(node, f"must be a name, or a mapping with 'use', not {in_words(node)}.")
        own = {name: option for name, option in options_of(cls).items() if name != "options"}
        beside = _options_beside(node.mapping.get("use"), cls)
        values = self.fill(node, own | beside)
        given = {name: values.pop(name) for name in beside if name in values}
        named = _construct(node, cls, values | {"options": given})
        _try_out(named, node)
        return named

    def _union(self, node: Node, hint: Any) -> Any:
        if node.value is None and type(None) in members(hint):
            return None
        alternatives = [m for m in members(hint) if m is not type(None)]
        failures: list[InvalidError] = []
        nearest: list[InvalidError] = []  # of alternatives that are a list as the node is one, or are none
        for alternative in alternatives:
            try:
                return self.structure(node, alternative)
            except InvalidError as error:
                failures.append(error)
                if not isinstance(error, _MisfitError) and is_list(alternative) == (node.items is not None):
                    nearest.append(error)
        if len(failures) == 1 or len(nearest) == 1:
            raise (nearest or failures)[0]
        raise _misfit(node, hint, _remedy(node, hint))

    def _scalar(self, node: Node, hint: Any) -> Any:
        value = node.value
        if hint is float and type(value) is int:
            value = float(value) if abs(value) <= sys.float_info.max else math.inf
        if type(value) is not hint:
            raise _misfit(node, hint, _remedy(node, hint))
        shown = shortened(node.spelling or str(value))
        if hint is float and not math.isfinite(value):
            raise InvalidError.at(node, f"must be a finite number, not {shown}.")
        if hint is float and abs(value) > FLOAT32_MAX:
            raise InvalidError.at(
                node, f"must be at most {FLOAT32_MAX:.1e}, as float32 holds it, not {shown}."
            )
        if hint is int and abs(value) >= 2**63:
            raise InvalidError.at(node, f"must be a whole number of at most 64 bits, not {shown}.")
        return value

    def _choice(self, node: Node, hint: Any) -> Any:
        choices = choices_of(hint)
        for value, choice in choices.items():
            if type(node.value) is type(value) and node.value == value:
                return choice
        raise _misfit(node, hint, guess(node.value, map(str, choices)) if isinstance(node.value, str) else "")

    def _path(self, node: Node, hint: type[PurePath]) -> PurePath:
        return hint(self.structure(node, str))

    def _list(self, node: Node, hint: Any) -> Any:
        if node.items is None:
            node = self.components.expand(node, hint)
        if node.items is None:
            raise _misfit(node, hint, " Write [] for none." if node.value is None else "")
        hints = get_args(hint)
        if not has_fixed_length(hint):
            hints = (element_of(hint),) * len(node.items)
        if len(hints) != len(node.items):
            raise InvalidError.at(node, f"must be {describe(hint)}, not a list of {len(node.items)}.")
        built = self._each(node.items, hints)
        origin = get_origin(hint) or hint
        return origin(built) if origin in (tuple, set, frozenset) else built

    def _mapping(self, node: Node, hint: Any) -> dict[str, Any]:
        if node.mapping is None:
            raise _misfit(node, hint)
        children = tuple(node.mapping.values())
        built = self._each(children, (element_of(hint),) * len(children))
        return dict(zip(node.mapping, built, strict=True))

    def _each(self, nodes: Sequence[Node], hints: Sequence[Any]) -> list[Any]:
        problems: list[Problem] = []
        built = []
        for node, hint in zip(nodes, hints, strict=True):
            with collected(problems):
                built.append(self.structure(node, hint))
        if problems:
            raise InvalidError(*problems)
        return built

    def _unsupported(self, node: Node, hint: Any) -> Any:
        raise InvalidError.at(node, f"has the type {hint}, which a configuration file cannot express.")


def _unknown_key(node: Node, key: str, known: Mapping[str, Option], paths: Iterable[str]) -> Problem:
    """What is wrong with `node`, whose `key` is none of the options that are `known` there.

    `paths` are the key paths of every option in reach: the same key may stand elsewhere.
    """
    if (option := option_called(key, known)) is not None:
        message = f"is the former name of '{option.name}', which is given too. Remove one of them."
        return Problem(node.place, node.path, message)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    here = ".".join(node.path)
    elsewhere = [path for path in dict.fromkeys(paths) if path.rpartition(".")[2] == key and path != here]
    quoted = [f"'{name}'" for name in (*near, *elsewhere[:3])]
    if _SECRET.fullmatch(key) and not near:
        hint = (
            " A key, token or password is no part of a configuration, which is copied into the run's files:"
            " log in, or set its environment variable."
        )
    elif quoted:
        hint = f" Did you mean {' or '.join(filter(None, (', '.join(quoted[:-1]), quoted[-1])))}?"
    else:
        hint = did_you_mean(key, known) or " There are none here."
    return Problem(node.place, node.path, f"there is no such option.{hint}")


def _option_paths(root: Node, components: ComponentLookup) -> Iterator[str]:
    """The key paths of all settings, and of the options of the components that `root` uses."""
    for name, option in options_of(Config).items():
        yield name
        node = (root.mapping or {}).get(name)
        if (section := section_of(option.type)) is not None:
            yield from (f"{name}.{key}" for key in options_of(section))
        elif node is not None:
            yield from _component_paths(components.expand(node, option.type), option.type, components)


def _component_paths(node: Node, hint: Any, components: ComponentLookup) -> Iterator[str]:
    for item in node.items or ():
        expanded = components.expand(item, element_of(hint))
        yield from _component_paths(expanded, element_of(hint), components)
    if node.items is None and kind_of(hint) is not None:
        yield from (".".join((*node.path, key)) for key in components.options_at(node, hint))


def _options_beside(use: Node | None, cls: type) -> dict[str, Option]:
    """The options of the optimizer or schedule named in `use`. Raises `InvalidError` where there is none."""
    from prefloop import optim  # brings in mlx

    if use is None:
        return {}
    is_optimizer = cls is OptimizerConfig
    known = optim.optimizer_classes() if is_optimizer else optim.schedule_functions()
    if not isinstance(use.value, str) or use.value not in known:
        what, hint = "optimizer" if is_optimizer else "schedule", did_you_mean(str(use.value), known)
        raise InvalidError.at(use, f"there is no {what} '{use.value}'.{hint}")
    return mlx_options(known[use.value])


def options_below(node: Node, hint: Any, components: ComponentLookup) -> Mapping[str, Option]:
    """The options that an expanded node of a type has, those of the optimizer that it names too."""
    section = section_of(hint)
    if section not in (OptimizerConfig, ScheduleConfig):
        return components.options_at(node, hint)
    with suppress(InvalidError):
        return {**options_of(section), **_options_beside((node.mapping or {}).get("use"), section)}
    return options_of(section)


def _try_out(named: OptimizerConfig | ScheduleConfig, node: Node) -> None:
    """Build it once, as mlx has checks of its own. Raises `InvalidError` with what mlx says."""
    from prefloop import optim  # brings in mlx

    try:
        if isinstance(named, OptimizerConfig):
            optim.make_optimizer(named, 1e-5)
        else:
            optim.make_schedule(named, 1e-5, named.warmup + 1000)
    except (ValueError, TypeError) as error:
        raise InvalidError.at(node, plain_message(error)) from error


def _misfit(node: Node, hint: Any, remedy: str = "") -> InvalidError:
    return _MisfitError.at(node, f"must be {describe(hint)}, not {in_words(node)}.{remedy}")


def _missing(node: Node, option: Option) -> Problem:
    help = f" {option.help}" if option.help else f" It takes {describe(option.type)}."
    return Problem(node.place, (*node.path, option.name), f"is missing.{help}")


def _validate(node: Node, options: Mapping[str, Option], values: dict[str, Any]) -> list[Problem]:
    """Run each field's own validator, so that every value out of range is known and not only the first.

    Validators see the other values, but no methods: what fails for that is left to the constructor.
    """
    settings = SimpleNamespace(**{name: o.default_value for name, o in options.items()} | values)
    problems = []
    for name, value in values.items():
        field, child = options[name].attribute, (node.mapping or {})[name]
        if field is None or field.validator is None:
            continue
        try:
            if field.converter is not None and not isinstance(field.converter, attrs.Converter):
                value = field.converter(value)
            field.validator(settings, field, value)
        except (ValueError, TypeError) as error:
            problems.append(Problem(child.place, child.path, plain_message(error)))
        except AttributeError:
            continue
    return problems


def _construct(node: Node, cls: type, values: Mapping[str, Any]) -> Any:
    options = options_of(cls)
    try:
        return cls(**{options[name].argument: value for name, value in values.items()})
    except (ValueError, TypeError, UserError, OSError, ImportError, AttributeError) as error:
        raise InvalidError.at(node, plain_message(error)) from error


def _remedy(node: Node, hint: Any) -> str:
    """The likeliest remedy for a scalar of the wrong type."""
    value, wanted = node.value, members(hint)
    if str in wanted and isinstance(value, int | float):
        return f" Put it in quotes: '{node.spelling or value}'."
    if bool in wanted and isinstance(value, str):
        return " Write true or false."
    if int in wanted and isinstance(value, float) and value.is_integer():
        return f" Write {int(value)}."
    if isinstance(value, str) and (int in wanted or float in wanted):
        with suppress(ValueError):
            float(value)
            return f" Write {value.replace('_', '')}." if "_" in value else " Write it without quotes."
    return ""
