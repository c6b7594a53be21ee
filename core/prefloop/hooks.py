"""The plugin contract: seven hooks, each returning names and what stands behind them.

A plugin is a module with functions of these names marked `hookimpl`, advertised in its package as

    [project.entry-points.prefloop]
    my-plugin = "my_package"

A component is an attrs class whose fields are its options in the configuration file. It may be given
as the class or, so that listing plugins imports nothing heavy, as the text ``"package.module:Class"``.
What each kind must have and may have is in `prefloop.components`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pluggy
from attrs import frozen

PROJECT = "prefloop"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

TARGET = re.compile(r"[\w.]+:\w+")
"""Where something is found without importing it: ``package.module:name``."""
Components = Mapping[str, type | str]


@frozen
class Command:
    """A command of the command line, found without importing it.

    Raises `TypeError` for a target or a help text of another form.
    """

    target: str
    """A `click.Command` as ``"package.module:name"``."""
    help: str
    """One line for ``prefloop --help``, which does not import the target."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.target, str) or not TARGET.fullmatch(self.target):
            raise TypeError(f"{self}: a command's target is a text 'package.module:name'")
        if not isinstance(self.help, str) or not self.help.strip() or "\n" in self.help:
            raise TypeError(f"{self}: a command's help is one line of text")


Commands = Mapping[str, Command]
GROUPS = ("config", "plugins", "runs")
"""The groups that a command of two words may be added to."""


@hookspec
def prefloop_samplers() -> Components:  # type: ignore[empty-body]
    """Samplers: ``sample(policy, prompts, progress) -> list[Pair]``.

    >>> @hookimpl
    ... def prefloop_samplers():
    ...     return {"best-of-n": "my_package.best_of_n:BestOfN"}
    """


@hookspec
def prefloop_judges() -> Components:  # type: ignore[empty-body]
    """Judges: ``judge(pairs) -> list[Verdict]``.

    >>> @attrs.frozen
    ... class Brevity:
    ...     def judge(self, pairs):
    ...         return [Verdict.from_scores(-len(p.first.text), -len(p.second.text)) for p in pairs]
    >>> @hookimpl
    ... def prefloop_judges():
    ...     return {"brevity": Brevity}
    """


@hookspec
def prefloop_losses() -> Components:  # type: ignore[empty-body]
    """Losses: ``loss(scores) -> mx.array`` of shape ``[B]``.

    >>> @attrs.frozen
    ... class Squared:
    ...     beta: float = 0.1
    ...     def __call__(self, scores):
    ...         return (1 - self.beta * scores.margin) ** 2
    >>> @hookimpl
    ... def prefloop_losses():
    ...     return {"squared": Squared}
    """


@hookspec
def prefloop_bonuses() -> Components:  # type: ignore[empty-body]
    """Bonuses: ``bonus(scores, progress) -> mx.array`` of shape ``[B]``, subtracted from the loss.

    >>> @attrs.frozen
    ... class Confidence:
    ...     alpha: float = 0.01
    ...     def __call__(self, scores, progress):
    ...         return self.alpha * scores.policy_chosen
    >>> @hookimpl
    ... def prefloop_bonuses():
    ...     return {"confidence": Confidence}
    """


@hookspec
def prefloop_algorithms() -> Components:  # type: ignore[empty-body]
    """Algorithms: presets of sampler, judge, loss and bonuses.

    >>> @attrs.frozen
    ... class Cautious:
    ...     beta: float = 0.5
    ...     def settings(self):
    ...         return {"loss": {"use": "sigmoid", "beta": self.beta}}
    >>> @hookimpl
    ... def prefloop_algorithms():
    ...     return {"cautious": Cautious}
    """


@hookspec
def prefloop_observers() -> Components:  # type: ignore[empty-body]
    """Observers: any of the methods of `prefloop.Observer`.

    >>> @attrs.frozen
    ... class Bell:
    ...     def run_finished(self, run):
    ...         print("\\a", end="")
    >>> @hookimpl
    ... def prefloop_observers():
    ...     return {"bell": Bell}
    """


@hookspec
def prefloop_commands() -> Commands:  # type: ignore[empty-body]
    """Commands of the command line. A name of two words adds to one of `GROUPS`, such as ``plugins new``.

    >>> @hookimpl
    ... def prefloop_commands():
    ...     return {"label": Command("my_package.label:label", "Label the pairs of a run.")}
    """
