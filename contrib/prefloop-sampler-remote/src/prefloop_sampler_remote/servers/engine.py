"""What the two kinds of servers have in common: adapters on a disk that they share with the learner, then one
request for each completion, whose token ids are taken as they were sampled."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrs import define, field, frozen

from prefloop.runs.files import new_folder
from prefloop.sampling.stops import Stops
from prefloop_sampler_remote.engine import Answer, EngineError, Request, Snapshot, Tokens
from prefloop_sampler_remote.limits import is_number
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.trial import GREEDY, Trial

if TYPE_CHECKING:
    from prefloop import Policy, Prompt, Sampling

KEPT = 3
"""Versions of the adapters that stay on the disk: the server may still be reading one."""


@frozen
class Said:
    """What a server answered: the ids as they were sampled, and the log-probability of each."""

    tokens: Tokens
    logprobs: tuple[float, ...]
    stopped: bool
    """Whether it says that the completion ended by itself, rather than at the limit."""


class Dialect(Protocol):
    """How one kind of server is spoken to. Each method may raise `EngineError`."""

    loads_slowly: ClassVar[bool]
    """Whether other adapters cost so much that those it has are used as long as they may be."""

    def check(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where such a server cannot sample for this policy and these prompts."""

    def write(self, folder: Path, snapshot: Snapshot) -> None:
        """Write the adapters as the server reads them."""

    def announce(self, asker: Asker, name: str, place: str, former: Sequence[str]) -> None:
        """Tell the server of new adapters, and of those that are not needed any more."""

    def request(self, name: str, place: str, prompt: Tokens, sampling: Sampling, seed: int) -> dict[str, Any]:
        """The body of a request for one completion from the adapters called `name`, which lie at `place`."""

    def read(self, reply: Mapping[str, Any], prompt: Tokens) -> Said:
        """What it answered; raises `EngineError` where token ids or log-probabilities are missing."""


@define(eq=False)
class ServerEngine:
    """Samples on one OpenAI-compatible server."""

    where: str
    """Its address, for people."""
    asker: Asker
    dialect: Dialect
    tokenizer: Any
    trial: Trial
    shelf: Path
    """The folder for this server's adapters, as the learner sees it; nobody else writes there."""
    shelf_there: str
    """The same folder, as the server sees it."""
    concurrency: int = 32
    tolerance: float = 0.05
    _held: Snapshot | None = field(default=None, init=False)
    """What the server samples from."""
    _names: deque[str] = field(factory=deque, init=False)
    """The adapters that lie on the shelf, the newest last."""

    def greet(self) -> None:
        """Find out that it samples from the policy's own distribution, whatever adapters it is given."""
        self._put(self.trial.snapshot)
        said = self._ask_all(Request((self.trial.prompt,), GREEDY, 0))[0]
        self._held = None
        self.trial.check(said.tokens, said.logprobs, self.tolerance)

    def load(self, snapshot: Snapshot) -> None:
        """Left to `sample`, which knows whether older adapters will do."""

    def sample(self, request: Request, snapshot: Snapshot) -> list[Answer]:
        """One answer for each prompt, from `snapshot`, or from what the server has where that may be used."""
        held = self._held
        if held is None or held.version < request.oldest or not self.dialect.loads_slowly:
            self._put(snapshot)
            held = snapshot
        stops, most = Stops.of(self.tokenizer, request.sampling.stop), request.sampling.max_tokens
        return [as_answer(said, most, stops, held.version) for said in self._ask_all(request)]

    def close(self) -> None:
        """Close the connections and take the adapters off the shelf."""
        self.asker.close()
        shutil.rmtree(self.shelf, ignore_errors=True)

    def _put(self, snapshot: Snapshot) -> None:
        """Put adapters where the server finds them, under a name that they alone have."""
        name = f"{self.shelf.name}-{snapshot.version}-{snapshot.digest[:12]}"
        if name not in self._names:
            try:
                with new_folder(self.shelf / name) as folder:
                    self.dialect.write(folder, snapshot)
            except OSError as error:
                raise EngineError(
                    f"gets no adapters: '{self.shelf}': {error.strerror}", mistaken=True
                ) from error
            self._names.append(name)
        former = [self._names.popleft() for _ in range(len(self._names) - KEPT)]
        self.dialect.announce(self.asker, name, self._place(name), former)
        for old in former:
            shutil.rmtree(self.shelf / old, ignore_errors=True)
        self._held = snapshot

    def _place(self, name: str) -> str:
        return f"{self.shelf_there.rstrip('/')}/{name}"

    def _ask_all(self, request: Request) -> list[Said]:
        name = self._names[-1]

        def ask(row: int) -> Said:
            prompt, seed = request.prompts[row], seed_of(request.seed, request.first + row)
            body = self.dialect.request(name, self._place(name), prompt, request.sampling, seed)
            reply = self.asker.post("/v1/completions", body)
            if not isinstance(reply, dict):
                raise EngineError("answers no JSON object", mistaken=True)
            return self.dialect.read(reply, prompt)

        with ThreadPoolExecutor(min(self.concurrency, len(request.prompts))) as threads:
            asked = [threads.submit(ask, row) for row in range(len(request.prompts))]
            try:
                return [one.result() for one in asked]
            finally:  # of a request that failed nothing more is asked
                for one in asked:
                    one.cancel()


def seed_of(seed: int, row: int) -> int:
    """The seed of a row of a step: 63 bits, as servers take them. Those of steps lie close together."""
    return int.from_bytes(hashlib.sha256(f"{seed} {row}".encode()).digest()[:8]) >> 1


def as_answer(said: Said, max_tokens: int, stops: Stops, version: int) -> Answer:
    """The completion in what a server said: up to its first end, as the policy's own sampling has it.

    Raises `EngineError` where it stopped at what ends no completion of the policy.
    """
    if whole := stops.cut(said.tokens):
        return Answer(whole, True, version)
    if said.stopped or len(said.tokens) < max_tokens:
        raise EngineError(
            f"ended a completion after {len(said.tokens)} of {max_tokens} tokens, at what ends none of "
            "the policy's: do both have the same tokenizer and generation_config.json?",
            mistaken=True,
        )
    return Answer(said.tokens, False, version)


def one_choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one completion in a reply. Raises `EngineError`."""
    choices = reply.get("choices")
    if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
        raise EngineError("answers without a completion in 'choices'", mistaken=True)
    found: Mapping[str, Any] = choices[0]
    return found


def logprobs_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object in ``logprobs``; an empty one where there is none."""
    found = choice.get("logprobs")
    return found if isinstance(found, dict) else {}


def as_ids(value: object) -> Tokens | None:
    """`value` where it is a list of token ids."""
    if isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        return tuple(value)
    return None


def as_logprobs(value: object, count: int) -> tuple[float, ...] | None:
    """`value` where it is a list of so many log-probabilities."""
    if isinstance(value, list) and len(value) == count and all(map(is_number, value)):
        return tuple(map(float, value))
    return None
