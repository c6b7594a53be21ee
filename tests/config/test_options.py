"""Which fields are options, how their types resolve, and how types read in words."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from attrs import NOTHING, Factory, field, frozen

from prefloop.components import Bonus, Loss
from prefloop.config import ModelConfig, ScheduleConfig, load_config
from prefloop.config.components import ComponentLookup
from prefloop.config.options import describe, options_of
from prefloop.config.structure import Structurer
from prefloop.config.yaml_nodes import InvalidError, Place, from_plain
from prefloop.errors import UserError
from support.fake_plugins import Draws, Llm, Plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import mlx.core as mx

    from prefloop.components import Judge


@frozen
class Tidy:
    """Its imports are behind TYPE_CHECKING, as linters ask for."""

    judges: Sequence[Judge]
    limit: int = 3


@frozen
class Unresolvable:
    weights: mx.array | None = None


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@frozen
class Odd:
    colour: Colour = Colour.RED
    folder: Path = Path("x")
    names: frozenset[str] = frozenset()
    pair: tuple[int, str] = (1, "a")
    anything: Any = None
    sloppy: str = field(default=None)
    aliased: int = field(default=1, alias="other")
    derived: int = field(default=Factory(lambda self: self.aliased + 1, takes_self=True))
    callback: type = int


def build(cls: type, plain: dict[str, Any]) -> Any:
    return Structurer(ComponentLookup()).structure(from_plain(plain, Place("t")), cls)


def test_options_are_the_public_init_fields() -> None:
    assert list(options_of(Llm)) == ["model", "system", "orders"]
    assert options_of(Plain) == {}
    option = options_of(Draws)["temperature"]
    assert (option.type, option.default, option.help) == (float, 0.8, "Sampling temperature.")
    assert options_of(ModelConfig)["path"].required


def test_annotations_under_type_checking_do_not_break_options() -> None:
    assert describe(options_of(Tidy)["judges"].type) == "a list of judges"
    with pytest.raises(UserError) as caught:
        options_of(Unresolvable)
    assert caught.value.problems == (
        (
            "the type of option 'weights' of test_options.Unresolvable cannot be resolved: "
            "name 'mx' is not defined."
        ),
    )


def test_enums_paths_sets_tuples_and_aliases_are_structured() -> None:
    plain = {"colour": "blue", "folder": "y", "names": ["a", "b"], "pair": [2, "b"], "anything": {"x": [1]}}
    assert build(Odd, {**plain, "sloppy": None, "aliased": 5}) == Odd(
        Colour.BLUE, Path("y"), frozenset({"a", "b"}), (2, "b"), {"x": [1]}, other=5
    )
    assert build(Odd, {"aliased": 5}).derived == 6
    assert options_of(Odd)["derived"].default_value is NOTHING


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ({"colour": "green"}, "t: colour: must be one of red, blue, not the text 'green'."),
        ({"folder": 3}, "t: folder: must be text, not the number 3. Put it in quotes: '3'."),
        ({"pair": [1, 2]}, "t: pair.1: must be text, not the number 2. Put it in quotes: '2'."),
        ({"pair": [1]}, "t: pair: must be a list of 2 whole numbers, not a list of 1."),
        ({"callback": "int"}, ("t: callback: has the type <class 'type'>, which a configuration file cannot "
         "express.")),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_their_type_are_refused(plain: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidError) as caught:
        build(Odd, plain)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (float | list[float], "a number or a list of numbers"),
        (int | None, "a whole number or null"),
        (Literal["a", "b"], "one of a, b"),
        (tuple[Bonus, ...], "a list of bonuses"),
        (list[Loss], "a list of losses"),
        (tuple[float, float], "a list of 2 numbers"),
        (dict[str, int], "a mapping"),
        (Loss, "a loss (a name, or a mapping with 'use')"),
        (ScheduleConfig | None, "a mapping or text or null"),
    ],
)
def test_types_are_described_in_words(hint: Any, words: str) -> None:
    assert describe(hint) == words


def test_a_broken_shape_in_a_component_names_the_class(installed: None) -> None:
    settings = {"model": "m", "prompts": "p", "sampler": {"use": "policy", "temperature": None}}
    with pytest.raises(UserError, match=r"sampler\.temperature: must be a number, not null \(nothing\)\.$"):
        load_config(settings)
