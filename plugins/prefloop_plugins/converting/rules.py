"""What the table of a dialect is made of: a `Rule` for each key, and how rules are written in short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeGuard

from attrs import Factory, evolve, field, frozen

Fate = Literal["became", "not honoured", "ignored there", "nothing to do"]
"""What becomes of a key: settings of prefloop; none, though it meant something; none, as the tool it was
written for reads it nowhere in these modes either; or none, as nothing is to be done for it.
"""
UNSET: Any = object()


@frozen
class Made:
    """What a rule makes of a value: settings by key path, and what a person has to know of them.

    `ran_with` says what the tool takes instead, where it reads the key in no case.
    """

    settings: Mapping[str, Any] = Factory(dict)
    note: str = ""
    fate: Fate = "became"
    ran_with: str = ""


@frozen
class Given:
    """The values of a file by dotted key, for rules that look at more than their own."""

    values: Mapping[str, Any]

    def __call__(self, key: str, default: Any = None) -> Any:
        """The value of a key; `default` where it is missing or null."""
        value = self.values.get(key)
        return default if value is None else value

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None


Make = Callable[[Any, Given], Made]
"""Raises `ValueError` for a value that cannot be converted at all."""


@frozen
class Rule:
    """What becomes of one key.

    `to` is the key path that it becomes, and `about` what else the tables in the documentation say; `note` is
    for accounts too. `make` says how, where the value is not taken as it is. `default` is the tool's own,
    given where prefloop's is another one: it is written out for a file that leaves the key out. `ran_with` is
    what the tool takes instead, where it ignores the key in a file; `instead` says in words what it does
    where it reads the key in no case.
    """

    fate: Fate
    to: str = ""
    note: str = ""
    make: Make | None = field(default=None, repr=False)
    default: Any = UNSET
    ran_with: Any = UNSET
    instead: str = ""
    about: str = ""

    @property
    def ignored_in_a_file(self) -> bool:
        return self.ran_with is not UNSET

    def __call__(self, value: Any, given: Given) -> Made:
        if self.make is not None:
            return self.make(value, given)
        return Made({self.to: value} if self.to else {}, self.note, self.fate)


Rules = Mapping[str, Rule]


def becomes(
    to: str,
    note: str = "",
    make: Make | None = None,
    *,
    default: Any = UNSET,
    ran_with: Any = UNSET,
    instead: str = "",
    about: str = "",
) -> Rule:
    """A key with a counterpart here. Null leaves prefloop's default; a switch may be YAML 1.1's."""

    def convert(value: Any, given: Given) -> Made:
        if value is None:
            return Made(fate="nothing to do")
        made = make(value, given) if make else Made({to: switch(value)})
        if made.fate != "became":
            return made
        return evolve(made, note=made.note or note, ran_with=made.ran_with or instead)

    return Rule("became", to, note, convert, default, ran_with, instead, about)


def left_out(why: str, *, idle: tuple[Any, ...] = ()) -> Rule:
    """A key that cannot be honoured, unless its value asks for nothing: is off, empty or one of `idle`."""

    def convert(value: Any, given: Given) -> Made:
        value = switch(value)
        if value is None or value is False or value in ("", [], {}, *idle):
            return Made(fate="nothing to do")
        return Made({}, why, "not honoured")

    return Rule("not honoured", note=why, make=convert)


def ignored(note: str, *, idle: Any = None) -> Rule:
    """A key that the tool itself reads nowhere in the modes that are converted; `idle` asks for nothing."""

    def convert(value: Any, given: Given) -> Made:
        return Made(fate="nothing to do") if value == idle else Made({}, note, "ignored there")

    return Rule("ignored there", note=note, make=convert)


def needless(note: str) -> Rule:
    """A key for which nothing is to be done, whatever its value."""
    return Rule("nothing to do", note=note)


def not_honoured(note: str) -> Made:
    """What a rule makes of a value that cannot be honoured."""
    return Made({}, note, "not honoured")


SWITCHES = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF"), False),
}


def switch(value: Any) -> Any:
    """A boolean as YAML 1.1 writes it, which the other tools read; anything else as it is."""
    return SWITCHES.get(value, value) if isinstance(value, str) else value


def one_of(value: Any, known: Iterable[str]) -> TypeGuard[str]:
    """Whether it is one of some texts; a list or mapping is none, and cannot be looked up."""
    return isinstance(value, str) and value in known


def without_point(value: Any) -> Any:
    """A number such as 10.0 as 10; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole(value: Any) -> bool:
    """Whether it is a whole number of at least one; anything else is reported by whoever reads it."""
    return type(value) is int and value >= 1
