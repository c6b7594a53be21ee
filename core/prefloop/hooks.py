"""The plugin contract: six hooks, each returning names and the classes behind them.

A plugin is a module with functions of these names marked `hookimpl`, advertised in its package as

    [project.entry-points.prefloop]
    my-plugin = "my_package"

A component is an attrs class whose fields are its options in the configuration file. It may be given
as the class or, so that listing plugins imports nothing heavy, as the text ``"package.module:Class"``.
"""

from __future__ import annotations

from collections.abc import Mapping

import pluggy

PROJECT = "prefloop"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Components = Mapping[str, type | str]


@hookspec
def prefloop_samplers() -> Components:
    """Samplers: ``sample(policy, prompts, progress) -> list[Pair]``.

    >>> @hookimpl
    ... def prefloop_samplers():
    ...     return {"best-of-n": "my_package.best_of_n:BestOfN"}
    """
    raise NotImplementedError


@hookspec
def prefloop_judges() -> Components:
    """Judges: ``judge(pairs) -> list[Verdict]``.

    >>> @attrs.frozen
    ... class Brevity:
    ...     def judge(self, pairs):
    ...         return [Verdict.from_scores(-len(p.first.text), -len(p.second.text)) for p in pairs]
    >>> @hookimpl
    ... def prefloop_judges():
    ...     return {"brevity": Brevity}
    """
    raise NotImplementedError


@hookspec
def prefloop_losses() -> Components:
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
    raise NotImplementedError


@hookspec
def prefloop_bonuses() -> Components:
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
    raise NotImplementedError


@hookspec
def prefloop_algorithms() -> Components:
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
    raise NotImplementedError


@hookspec
def prefloop_observers() -> Components:
    """Observers: any of the methods of `prefloop.Observer`.

    >>> @attrs.frozen
    ... class Bell:
    ...     def run_finished(self, run):
    ...         print("\\a", end="")
    >>> @hookimpl
    ... def prefloop_observers():
    ...     return {"bell": Bell}
    """
    raise NotImplementedError
