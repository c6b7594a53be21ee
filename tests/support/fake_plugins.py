"""Plugins made for these tests: a stand-in for the bundled ones, and two third parties."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attrs import field, frozen
from attrs.validators import ge, gt, in_

from prefloop.components import Observer
from prefloop.errors import UserError
from prefloop.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefloop.components import Judge


@frozen
class Draws:
    temperature: float = field(default=0.8, validator=ge(0), metadata={"help": "Sampling temperature."})
    top_p: float = 0.95
    max_completion_length: int = field(default=512, validator=ge(1))

    def sample(self, policy: Any, prompts: Any, progress: Any) -> list[Any]:
        return []


@frozen
class DrawsFromReference(Draws):
    reference_samples: ClassVar[bool] = True


@frozen
class Llm:
    shorthand: ClassVar[str] = "model"

    model: str = field(default="Qwen/Qwen3-0.6B", metadata={"help": "The judge's model."})
    system: str = field(default="Which answer is better?", metadata={"help": "The rubric."})
    orders: Literal["both", "first"] = "both"
    _cache: dict[str, int] = field(factory=dict)
    calls: int = field(default=0, init=False)

    def judge(self, pairs: Any) -> list[Any]:
        return []


class Plain:
    """Not an attrs class, so it has no options."""

    def judge(self, pairs: Any) -> list[Any]:
        return []

    def __eq__(self, other: object) -> bool:
        return type(other) is Plain

    __hash__ = None  # type: ignore[assignment]


@frozen
class Committee:
    members: tuple[Judge, ...] = field(metadata={"help": "The judges."})
    weights: Mapping[str, float] = field(factory=dict)
    chair: Judge | None = None

    def judge(self, pairs: Any) -> list[Any]:
        return []


@frozen
class Sigmoid:
    beta: float = field(default=0.1, validator=gt(0), metadata={"help": "Strength of the reference."})
    penalty: str = field(default="inside", validator=in_(("inside", "outside")))

    def __call__(self, scores: Any) -> Any:
        return scores


@frozen
class Kl:
    alpha: float | list[float] = field(default=1e-5, metadata={"help": "Weight, or one per epoch."})

    def __call__(self, scores: Any, progress: Any) -> Any:
        return scores


@frozen
class Optimism:
    needs: ClassVar[frozenset[str]] = frozenset({"reference_samples"})
    alpha: float = 1e-5

    def __call__(self, scores: Any, progress: Any) -> Any:
        return scores


@frozen
class OnlineDpo:
    def settings(self) -> dict[str, Any]:
        return {"sampler": "policy", "judge": "llm", "loss": "sigmoid", "bonuses": []}


@frozen
class Xpo:
    alpha: float = field(default=1e-5, metadata={"help": "Weight of the bonus."})

    def settings(self) -> dict[str, Any]:
        return {
            "sampler": {"use": "policy", "temperature": 1.0},
            "judge": {"use": "llm", "orders": "first"},
            "loss": {"use": "sigmoid", "beta": 0.5},
            "bonuses": [{"use": "kl", "alpha": self.alpha}],
        }


@frozen
class Overreaching:
    def settings(self) -> dict[str, Any]:
        return {"training": {"iters": 3}}


@frozen
class Tracker(Observer):
    project: str = "prefloop"


class Bundled:
    @hookimpl
    def prefloop_samplers(self) -> dict[str, type]:
        return {"policy": Draws, "policy-reference": DrawsFromReference}

    @hookimpl
    def prefloop_judges(self) -> dict[str, type]:
        return {"llm": Llm, "human": Plain, "committee": Committee}

    @hookimpl
    def prefloop_losses(self) -> dict[str, type]:
        return {"sigmoid": Sigmoid}

    @hookimpl
    def prefloop_bonuses(self) -> dict[str, type]:
        return {"kl": Kl, "optimism": Optimism}

    @hookimpl
    def prefloop_algorithms(self) -> dict[str, type]:
        return {"online_dpo": OnlineDpo, "xpo": Xpo}


@frozen
class NearLength:
    tolerance: int = field(default=3, validator=ge(0))

    def judge(self, pairs: Any) -> list[Any]:
        return []


@frozen
class Angry:
    level: int = 1

    def __attrs_post_init__(self) -> None:
        if self.level > 9:
            raise UserError("the level is over nine.")


class Acme:
    @hookimpl
    def prefloop_judges(self) -> dict[str, type]:
        return {"near-length": NearLength, "angry": Angry}

    @hookimpl
    def prefloop_algorithms(self) -> dict[str, type]:
        return {"overreaching": Overreaching}

    @hookimpl
    def prefloop_observers(self) -> dict[str, type]:
        return {"tracker": Tracker}


class Rival:
    @hookimpl
    def prefloop_judges(self) -> dict[str, type]:
        return {"near-length": NearLength}


class EntryPoint:
    """As much of an importlib.metadata.EntryPoint as the registry asks for."""

    def __init__(self, distribution: str, plugin: object) -> None:
        self.name = "entry"
        self.dist = SimpleNamespace(name=distribution, version="1.2")
        self.plugin = plugin

    def load(self) -> object:
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin
