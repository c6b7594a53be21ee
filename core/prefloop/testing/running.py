"""Runs a suite without a test runner, and how a test says that it does not apply."""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

from attrs import frozen


class Note(UserWarning):
    """Something that is no fault but that a user may want to know, such as how often the order decides."""


@frozen
class Outcome:
    """What became of one test of a suite."""

    test: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    notes: tuple[str, ...] = ()


def skip(reason: str) -> NoReturn:
    """End the test as one that does not apply. pytest knows this exception as unittest does."""
    raise unittest.SkipTest(reason)


def note(text: str) -> None:
    """Report `text` beside the result: pytest lists it among its warnings."""
    warnings.warn(text, Note, stacklevel=3)


def tests_of(suite: type) -> list[str]:
    """The names of a suite's tests: those that hold for all kinds first, each class's in its order.

    A subclass leaves one out as it does for pytest, by setting it to None.
    """
    classes = reversed(suite.__mro__)
    names = dict.fromkeys(name for cls in classes for name in vars(cls) if name.startswith("test_"))
    return [name for name in names if callable(getattr(suite, name))]


def outcomes(suite: type) -> Iterator[Outcome]:
    """Run the tests of a suite one after the other, each on an instance of its own."""
    set_up, tear_down = (getattr(suite, name, None) for name in ("setup_class", "teardown_class"))
    if set_up:
        set_up()
    try:
        for name in tests_of(suite):
            yield _outcome(suite(), name)
    finally:
        if tear_down:
            tear_down()


def _outcome(suite: Any, name: str) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            getattr(suite, name)()
        except unittest.SkipTest as skipped:
            return Outcome(name, "skipped", str(skipped))
        except AssertionError as failed:
            return Outcome(name, "failed", str(failed))
        except Exception as error:
            return Outcome(name, "failed", f"{type(error).__name__}: {error}")
    return Outcome(name, "passed", notes=tuple(str(w.message) for w in caught if w.category is Note))
