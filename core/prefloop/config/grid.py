"""Several runs from one command: configurations, values for a key and seeds, each with each.

``--grid KEY=V1,V2`` is a grid in any case. ``--set KEY=[V1,V2]`` is one where KEY cannot take a list; where
it can, as `alpha` of a bonus can, the list is its value, as in a file.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from prefloop.config.dump import to_plain
from prefloop.config.load import Override, load_config, parse_override, type_at
from prefloop.config.options import is_list, members
from prefloop.config.schema import Config
from prefloop.config.yaml_nodes import KeyPath, Node, Place, from_plain
from prefloop.errors import UserError, first_few

MOST = 1000
"""How many runs one command may make: more are a slip of the hand."""
SEED = "training.seed"
Load = Callable[[Path, Sequence[Override]], Config]
_LONGEST = 40
"""Characters of a value that a name has."""


@frozen
class Axis:
    """A key and the values that it takes in turn."""

    key: str
    values: tuple[Override, ...]
    words: tuple[str, ...]
    """What each value adds to the name of a run."""


@frozen
class Member:
    """One of several runs."""

    name: str
    setting: str
    """Its name without the seed: what runs have in common that differ in the seed alone."""
    source: Path
    """The configuration that it was made from."""
    varied: Mapping[str, Any]
    """The keys that differ between the runs of one configuration, with its values."""
    config: Config = field(repr=False)


def members_of(
    sources: Sequence[Path],
    overrides: Sequence[str],
    grids: Sequence[str],
    seeds: int | None,
    load: Load = load_config,
) -> list[Member]:
    """Every run that is asked for: of each configuration, with each value, with as many seeds.

    `load` makes a configuration of a file. Seeds go up from the configuration's own. Raises `UserError` with
    what is wrong with any of them.
    """
    plain, axes = _divided(sources, overrides, grids)
    if seeds is not None and any(axis.key == SEED for axis in axes):
        raise UserError(f"--seeds: the seeds are given by {SEED} already. Leave one of them out.")
    count = len(sources) * (seeds or 1)
    for axis in axes:
        count *= len(axis.values)
    if count > MOST:
        raise UserError(f"that would be {count:,} runs; one command makes at most {MOST:,}.")
    if count > 1 and (pipe := next(filter(_is_pipe, sources), None)):
        raise UserError(f"{pipe}: is a pipe, which is read once. For several runs write it to a file.")
    found: list[Member] = []
    problems: list[str] = []
    for source, stem in zip(sources, _stems(sources), strict=True):
        for chosen in itertools.product(*(range(len(axis.values)) for axis in axes)):
            try:
                found += _seeded(source, stem, plain, list(zip(axes, chosen, strict=True)), seeds, load)
            except UserError as error:
                problems += error.problems
    if problems:
        raise UserError(*first_few(list(dict.fromkeys(problems)), shown=20))
    _refuse_same(found)
    return found


def _divided(
    sources: Sequence[Path], overrides: Sequence[str], grids: Sequence[str]
) -> tuple[list[Override | Axis], list[Axis]]:
    """What to set, in its order, with the axes among it; and the axes."""
    given = [parse_override(text) for text in overrides]
    placed: list[Override | Axis] = []
    for override in given:
        others = [other for other in given if other is not override]
        is_grid = override.value.items is not None and not _takes_list(sources, override, others)
        placed.append(_axis(override, "--set") if is_grid else override)
    for axis in (_axis(_listed(text), "--grid") for text in grids):
        # A key below it is set afterwards, or it would be lost.
        below = (i for i, other in enumerate(placed) if _key(other).startswith(f"{axis.key}."))
        placed.insert(next(below, len(placed)), axis)
    axes = [one for one in placed if isinstance(one, Axis)]
    counts = Counter(map(_key, placed))
    for axis in axes:
        if counts[axis.key] > 1:
            raise UserError(f"{axis.key} is given twice, and one of them is a list of values to try each.")
    return placed, _with_words(axes)


def _takes_list(sources: Sequence[Path], override: Override, others: Sequence[Override]) -> bool:
    """Whether the key of an override takes a list: there is then no telling it from a grid.

    One that there is not anywhere counts as one: what is wrong with it is said when it is set. Raises
    `UserError` where configurations differ in whether it takes a list.
    """
    plain = [other for other in others if other.value.items is None]
    types = {s: type_at(s, override.path, plain) for s in sources if not _is_pipe(s)}
    answers = {source: _is_list(hint) for source, hint in types.items() if hint is not None}
    if len(set(answers.values())) > 1:
        key = ".".join(override.path)
        one, other = (next(s for s, takes in answers.items() if takes is answer) for answer in (True, False))
        raise UserError(
            f"{override.value.place}: '{key}' takes a list in {one} and none in {other}. For a run with each "
            f"value write --grid {key}=…"
        )
    return next(iter(answers.values()), True)


def _is_pipe(source: Path) -> bool:
    return source.exists() and not source.is_file() and not source.is_dir()


def _is_list(hint: Any) -> bool:
    return any(member is Any or is_list(member) for member in members(hint))


def _listed(text: str) -> Override:
    """``KEY=V1,V2``, with or without brackets around the values, as a list."""
    key, equals, values = text.partition("=")
    if values.strip()[:1] == "[":
        try:
            override = parse_override(text, "--grid")
        except UserError:
            pass  # such as [a],[b]
        else:
            return override
    return parse_override(f"{key}{equals}[{values}]" if equals else text, "--grid")


def _axis(override: Override, option: str) -> Axis:
    """The axis of a list of values."""
    key, items = ".".join(override.path), override.value.items or ()
    if not items:
        raise UserError(f"{override.value.place}: there is no value to try. Write {option} {key}=[V1,V2].")
    spelled = [_spelled(item) for item in items]
    if twice := [text for text, count in Counter(spelled).items() if count > 1]:
        raise UserError(f"{override.value.place}: the value {twice[0]} is there twice.")
    pairs = zip(items, spelled, strict=True)
    values = tuple(_single(item, override.path, f"{option} {key}={text}") for item, text in pairs)
    return Axis(key, values, tuple(spelled))


def _single(item: Node, path: KeyPath, source: str) -> Override:
    """One value of a list, as if it had been given alone."""
    node = from_plain(item.plain, Place(source, path=path), path)
    return Override(path, evolve(node, spelling=item.spelling))


def _spelled(node: Node) -> str:
    return node.spelling if node.spelling is not None else json.dumps(node.plain, ensure_ascii=False)


def _key(given: Override | Axis) -> str:
    return given.key if isinstance(given, Axis) else ".".join(given.path)


def _with_words(axes: Sequence[Axis]) -> list[Axis]:
    """The axes, with what each value adds to a name: ``beta0.1``, ``xpo``."""
    last = Counter(axis.key.rpartition(".")[2] for axis in axes)
    found = []
    for axis in axes:
        short = axis.key.rpartition(".")[2]
        name = short if last[short] == 1 and not short.isdecimal() else axis.key
        pairs = zip(axis.values, axis.words, strict=True)
        words = [_word(name, override.value, text) for override, text in pairs]
        if len(set(words)) < len(words):
            words = [f"{name}{number}" for number in range(1, len(words) + 1)]
        found.append(evolve(axis, words=tuple(words)))
    return found


def _word(name: str, node: Node, text: str) -> str:
    if isinstance(node.value, str):
        return _slug(re.split(r"[/:\\]", node.value.rstrip("/\\"))[-1]) or name
    if node.mapping is not None:
        use = node.mapping.get("use")
        return _slug(str(use.value)) if use else name
    if node.items is not None or node.value is None or isinstance(node.value, bool):
        return f"{name}-{_slug(text)}"
    return f"{name}{_slug(text)}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.")[:_LONGEST]


def _stems(sources: Sequence[Path]) -> list[str]:
    """A name for each configuration: that of its file, with the folder's where that alone is not enough."""
    resolved = [source.resolve() for source in sources]
    if twice := [path for path, count in Counter(resolved).items() if count > 1]:
        given = sources[resolved.index(twice[0])]
        raise UserError(f"{given}: is given twice. For several runs of it, give --seeds or --grid.")
    short = [_slug(path.stem) or "run" for path in resolved]
    long = [_slug(f"{path.parent.name}-{path.stem}") for path in resolved]
    stems = [one if short.count(one) == 1 else other for one, other in zip(short, long, strict=True)]
    return [stem if stems.count(stem) == 1 else f"{stem}.{i}" for i, stem in enumerate(stems, 1)]


def _seeded(
    source: Path,
    stem: str,
    plain: Sequence[Override | Axis],
    chosen: Sequence[tuple[Axis, int]],
    seeds: int | None,
    load: Load,
) -> Iterator[Member]:
    """The runs of one configuration with one value on each axis."""
    values = {axis.key: axis.values[i] for axis, i in chosen}
    overrides = [values[o.key] if isinstance(o, Axis) else o for o in plain]
    config = load(source, overrides)
    varied = {key: override.value.plain for key, override in values.items()}
    words = [axis.words[i] for axis, i in chosen if axis.key != SEED]
    setting = "-".join([stem, *words])
    for seed in range(config.training.seed, config.training.seed + (seeds or 1)):
        several = seeds is not None or SEED in varied
        yield Member(
            name=f"{setting}-seed{seed}" if several else setting,
            setting=setting,
            source=source,
            varied=varied | ({SEED: seed} if several else {}),
            config=evolve(config, training=evolve(config.training, seed=seed)),
        )


def _refuse_same(found: Sequence[Member]) -> None:
    """Raises `UserError` where two runs would be the same one under two names."""
    names: dict[str, str] = {}
    for member in found:
        settings = to_plain(evolve(member.config, output=type(member.config.output)()), member.config.origins)
        text = json.dumps(settings, sort_keys=True, default=str)
        if text in names:
            raise UserError(
                f"'{names[text]}' and '{member.name}' would be the same run: their settings are equal. Leave "
                "one of them out."
            )
        names[text] = member.name
    if len({member.name for member in found}) < len(found):
        raise UserError("two of the runs would have the same name: give their configurations other names.")
