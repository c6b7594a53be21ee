"""What the two kinds of servers have in common: adapters on a disk that they share with the learner, then one
request for each completion, whose token ids are taken as they were sampled."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, evolve, field, frozen

from prefloop.model.limits import embedded_ids
from prefloop.runs.files import new_folder
from prefloop.sampling.stops import Stops
from prefloop_sampler_remote.engine import Answer, EngineError, Request, Snapshot, Tokens
from prefloop_sampler_remote.servers.asking import Asker
from prefloop_sampler_remote.servers.trial import check_trial

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

    def check(self, policy: Policy) -> None:
        """Find out whether this policy's adapters can be served. May raise `UserError`, too."""

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

    asker: Asker
    dialect: Dialect
    shelf: Path
    """The folder for adapters, as the learner sees it."""
    shelf_there: str
    """The same folder, as the server sees it."""
    concurrency: int = 16
    tolerance: float = 0.05
    _names: deque[str] = field(factory=deque, init=False)
    """The adapters that lie on the shelf, the newest last."""
    _tokenizer: Any = field(default=None, init=False)
    _vocabulary: int = field(default=0, init=False)

    @property
    def where(self) -> str:
        """Its address, for people."""
        return self.asker.where

    def check(self, policy: Policy) -> None:
        """Find out that it samples from the policy's own distribution, whatever adapters it is given."""
        self.dialect.check(policy)
        self._tokenizer = policy.tokenizer
        self._vocabulary = embedded_ids(policy.model) or len(policy.tokenizer.get_vocab())
        check_trial(policy, self._try, self.tolerance)

    def load(self, snapshot: Snapshot) -> None:
        """Put the adapters where the server finds them, under a name that follows from what is in them."""
        about = json.dumps(snapshot.config, sort_keys=True)
        name = f"prefloop-{hashlib.sha256(f'{snapshot.digest} {about}'.encode()).hexdigest()[:16]}"
        if name in self._names:
            self._names.remove(name)
        elif not (self.shelf / name).exists():
            try:
                with new_folder(self.shelf / name) as folder:
                    self.dialect.write(folder, snapshot)
            except OSError as error:
                raise EngineError(f"'{self.shelf}' cannot be written: {error}", mistaken=True) from None
        self._names.append(name)
        former = [self._names.popleft() for _ in range(len(self._names) - KEPT)]
        self.dialect.announce(self.asker, name, self._place(name), former)
        for old in former:
            shutil.rmtree(self.shelf / old, ignore_errors=True)

    def sample(self, request: Request, snapshot: Snapshot) -> list[Answer]:
        """One answer for each prompt, from the adapters that were loaded last."""
        stops, most = Stops.of(self._tokenizer, request.sampling.stop), request.sampling.max_tokens
        answers = [checked(said, most, stops, self._vocabulary) for said in self._ask_all(request)]
        return [evolve(answer, version=snapshot.version) for answer in answers]

    def close(self) -> None:
        """Close the connections and take the adapters off the shelf."""
        self.asker.close()
        while self._names:
            shutil.rmtree(self.shelf / self._names.pop(), ignore_errors=True)

    def _place(self, name: str) -> str:
        return f"{self.shelf_there.rstrip('/')}/{name}"

    def _ask_all(self, request: Request) -> list[Said]:
        name = self._names[-1]

        def ask(row: int) -> Said:
            prompt, seed = request.prompts[row], (request.seed + row) % 2**63
            body = self.dialect.request(name, self._place(name), prompt, request.sampling, seed)
            reply = self.asker.post("/v1/completions", body)
            if not isinstance(reply, dict):
                raise EngineError("its answer is no JSON object", mistaken=True)
            return self.dialect.read(reply, prompt)

        with ThreadPoolExecutor(min(self.concurrency, len(request.prompts))) as threads:
            asked = [threads.submit(ask, row) for row in range(len(request.prompts))]
            try:
                return [one.result() for one in asked]
            finally:  # of a request that failed nothing more is asked
                for one in asked:
                    one.cancel()

    def _try(self, snapshot: Snapshot, prompt: Prompt, sampling: Sampling) -> Said:
        self.load(snapshot)
        return self._ask_all(Request((prompt.tokens,), sampling, 0))[0]


def checked(said: Said, max_tokens: int, stops: Stops, vocabulary: int) -> Answer:
    """The completion in what a server said: up to its first end, as the policy's own sampling has it.

    Raises `EngineError` where it stopped at what does not end a completion of the policy, and where tokens
    are too few, too many or unknown.
    """
    tokens = said.tokens
    if not 0 < len(tokens) <= max_tokens:
        raise EngineError(f"it gave {len(tokens)} tokens where 1 to {max_tokens} were wanted", mistaken=True)
    if not all(0 <= token < vocabulary for token in tokens):
        raise EngineError("it gave a token that the policy does not have", mistaken=True)
    if whole := stops.cut(tokens):
        return Answer(whole, True, version=-1)
    if said.stopped or len(tokens) < max_tokens:
        raise EngineError(
            f"it ended a completion after {len(tokens)} of {max_tokens} tokens, at something that ends none "
            "of the policy: do both have the same tokenizer and generation_config.json?",
            mistaken=True,
        )
    return Answer(tokens, False, version=-1)


def one_choice(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one completion in a reply. Raises `EngineError`."""
    choices = reply.get("choices")
    if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
        raise EngineError("its answer has no completion in 'choices'", mistaken=True)
    found: Mapping[str, Any] = choices[0]
    return found


def as_ids(value: object) -> Tokens | None:
    """`value` where it is a list of token ids."""
    if isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        return tuple(value)
    return None


def as_logprobs(value: object, count: int) -> tuple[float, ...] | None:
    """`value` where it is a list of so many log-probabilities."""
    if isinstance(value, list) and len(value) == count and all(isinstance(one, int | float) for one in value):
        return tuple(map(float, value))
    return None
