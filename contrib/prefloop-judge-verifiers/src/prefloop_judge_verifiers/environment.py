"""A verifiers environment: loaded, looked over, and asked for the rewards of two answers.

Everything that scores is verifiers' own: `Environment.init_state` makes the states and `Rubric.score_group`
calls the reward functions, in whatever form they are.
"""

from __future__ import annotations

import contextvars
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from attrs import frozen

from prefloop import Completion, Pair, UserError
from prefloop.beginning import folders
from prefloop.text import one_line

_FAILURE = re.compile(r"Error calling (?:group )?reward function (?P<name>[^:]+): (?P<why>.*)", re.DOTALL)
_failures: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("failures", default=None)
"""What verifiers has logged of reward functions while one pair is scored: it goes on with a zero."""


@frozen
class Score:
    """What one answer got."""

    reward: float
    parts: Mapping[str, float]
    """The same by the names of the reward functions that count."""
    failed: str = ""
    """Why it is no score."""


@frozen
class Loaded:
    """An environment, and what of its rubric counts."""

    environment: Any
    client: Any
    weights: Mapping[str, float]
    """Of the reward functions by their names; those of weight zero are metrics."""
    columns: tuple[str, ...]
    """Columns of a row that its reward functions cannot do without."""
    file: str | None

    @property
    def rubric(self) -> Any:
        return self.environment.rubric

    async def score(self, pair: Pair) -> list[Score]:
        """The scores of both answers, which are one group. Raises what the rubric raises."""
        noted: dict[str, str] = {}
        _failures.set(noted)
        states = [await self._state(pair, answer) for answer in (pair.first, pair.second)]
        try:
            await self.rubric.score_group(states)
        finally:
            for state in states:
                await self.rubric.cleanup(state)
        counting = {name: why for name, why in noted.items() if self.weights.get(name, 1.0)}
        failed = "; ".join(f"the reward function {n} failed: {why}" for n, why in counting.items())
        return [self._score(state, failed) for state in states]

    def _score(self, state: Mapping[str, Any], failed: str) -> Score:
        metrics = {name: value for name, value in (state["metrics"] or {}).items() if self.weights.get(name)}
        return Score(float(state["reward"]), metrics, failed)

    async def _state(self, pair: Pair, answer: Completion) -> Any:
        """The state of a rollout that has ended with `answer`."""
        prompt = pair.prompt
        messages = [dict(message) for message in prompt.messages] or [
            {"role": "user", "content": prompt.text}
        ]
        row = {"example_id": 0, **prompt.fields, "prompt": messages}
        state = await self.environment.init_state(row, self.client, "policy")
        state = await self.environment.setup_state(state) or state
        said = [Message(role="assistant", content=answer.text)]
        state["trajectory"].append(
            {
                "prompt": state["prompt"],
                "completion": said,
                "response": None,
                "tokens": None,
                "reward": None,
                "advantage": None,
                "is_truncated": not answer.stopped,
                "trajectory_id": "",
                "extras": {},
            }
        )
        state["completion"] = said
        state["is_completed"], state["is_truncated"] = True, not answer.stopped
        return state


class Message(dict[str, Any]):
    """A message that environments of every age can read: older ones as a dict, newer ones by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def load(name: str, args: Mapping[str, Any]) -> Loaded:
    """Load an environment. Raises `UserError` where that fails, or it is no single turn."""
    vf: Any = importlib.import_module("verifiers")
    for folder in folders():
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        environment = vf.load_environment(name, **args)
    except Exception as error:
        hint = "" if args else " Its arguments go under args."
        raise UserError(f"env: {one_line(str(error), 300)}{hint}") from error
    environments = getattr(environment, "envs", [environment])
    if not all(isinstance(one, vf.SingleTurnEnv) for one in environments):
        raise UserError(
            f"env: '{name}' is no environment of single turns: it answers the model or gives it tools, and a "
            "completion here is one answer."
        )
    rubrics = [rubric for one in environments for rubric in _rubrics(one.rubric)]
    weighted = [row for rubric in rubrics for row in zip(rubric.funcs, rubric.weights, strict=False)]
    weights = {_name(function): float(weight) for function, weight in weighted}
    if not any(weights.values()):
        raise UserError(
            f"env: the rubric of '{name}' has no reward function with a weight, so all answers tie."
        )
    _listen()
    counting = [function for function, weight in weighted if weight]
    columns = tuple(dict.fromkeys(column for f in counting for column in _columns(f, environment)))
    return Loaded(environment, _client(), weights, columns, _file(name))


def _rubrics(rubric: Any) -> Iterator[Any]:
    """A rubric, or those that it is a group of."""
    for one in getattr(rubric, "rubrics", ()):
        yield from _rubrics(one)
    yield rubric


def _columns(function: Any, environment: Any) -> list[str]:
    """The columns of a row that a function of `environment` names without a default."""
    parameters = inspect.signature(function).parameters.values()
    single = {"answer": "answer", "answers": "answer", "info": "info", "infos": "info"}
    named = (p.name for p in parameters if p.default is p.empty)
    present = environment.get_dataset(n=1).column_names if environment.build_dataset() is not None else []
    return [single[name] for name in named if name in single and single[name] in present]


def _client() -> Any:
    """A client for `init_state`, which wants one: of a server that is not there, as nothing is sent."""
    vf: Any = importlib.import_module("verifiers")
    clients: Any = importlib.import_module("verifiers.clients")
    return clients.resolve_client(vf.ClientConfig(api_base_url="http://127.0.0.1:9/v1", api_key_var="NO_KEY"))


def _file(name: str) -> str | None:
    module = sys.modules.get(name.replace("-", "_").split("/")[-1])
    return getattr(module, "__file__", None)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", repr(function)))


@cache
def _listen() -> None:
    """Hear of reward functions that fail: verifiers logs it and counts them as zero."""
    logging.getLogger("verifiers").addHandler(_Notes(logging.ERROR))


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        found, noted = _FAILURE.match(record.getMessage()), _failures.get()
        if found and noted is not None:
            noted.setdefault(found["name"], one_line(found["why"], 200))
