"""The sampler `remote`: both completions of each prompt from the policy, drawn by workers elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import define, field, frozen
from attrs.validators import ge, gt, instance_of

from prefloop import Pair, Progress, Prompt, UserError
from prefloop.embedded import local_path
from prefloop.errors import said_of
from prefloop.model.limits import embedded_ids
from prefloop_plugins.samplers import SamplingOptions
from prefloop_sampler_remote.dispatch import Dispatcher, Fit, Portion
from prefloop_sampler_remote.engine import Answer, Engine, EngineError, Request, Snapshot
from prefloop_sampler_remote.limits import Limits
from prefloop_sampler_remote.token import read_token

if TYPE_CHECKING:
    from prefloop import Completion, Policy


def addresses(_: object, attribute: Any, value: tuple[str, ...]) -> None:
    """A validator: addresses of a scheme, a host and a port alone, since the secret has a file of its own."""
    for one in value:
        if not _is_address(one):
            raise ValueError(f"'{attribute.name}' takes addresses such as http://10.0.0.2:8139, not '{one}'")
    if not value or len({one.lower().rstrip("/") for one in value}) < len(value):
        raise ValueError(f"'{attribute.name}' takes one address or more, each once")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    plain = f"[{host}]" if host and ":" in host else host
    alone = parts.netloc.lower() in (plain, f"{plain}:{port}") and not (parts.query or parts.fragment)
    return parts.scheme in ("http", "https") and bool(host) and parts.path in ("", "/") and alone


def only_lora(policy: Policy) -> None:
    """Raises `UserError` where full weights are trained."""
    if policy.adapter.type == "full":
        raise UserError(
            "adapter.type: full weights are not sent to workers after every step: train lora or dora "
            "adapters, or sample here."
        )


@define(eq=False, kw_only=True)
class ElsewhereSampler(SamplingOptions):
    """What samplers that draw on other machines have in common; `engines` says what those are.

    The loop asks for the pairs of `max_staleness` steps to come. Portions of `portion` prompts go to
    whichever engine is free, and each is sampled from the policy as it is then.
    """

    max_staleness: int = field(
        default=8,
        validator=ge(0),
        metadata={
            "help": "Most updates between the policy that a pair was sampled from and the one that learns "
            "from it; 0 waits for each step's pairs."
        },
    )
    portion: int = field(
        default=8, validator=gt(0), metadata={"help": "Prompts that a worker is given at a time."}
    )
    timeout: float = field(
        default=20.0,
        validator=gt(0),
        metadata={"help": "Seconds without a sign of life after which a worker's portion goes to another."},
    )
    pause: float = field(
        default=10.0,
        validator=gt(0),
        metadata={"help": "Seconds after which a worker that did not answer is tried again."},
    )
    fallback: bool = field(
        default=True,
        validator=instance_of(bool),
        metadata={"help": "Sample in the learner while no worker answers; false waits for one."},
    )
    _policy: Policy | None = field(init=False, default=None, repr=False)
    _dispatcher: Dispatcher | None = field(init=False, default=None, repr=False)

    def engines(self, policy: Policy, prompts: Sequence[Prompt]) -> list[Engine]:
        """What samples for this policy; nothing is asked yet. Raises `UserError`."""
        raise NotImplementedError

    def check_policy(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        """Greet all engines. Raises `UserError` for one that answers and cannot sample for this policy."""
        self._open(policy, prompts)

    def close(self) -> None:
        """Leave the engines."""
        if self._dispatcher:
            self._dispatcher.close()
        self._policy = self._dispatcher = None

    def follow(self, policy: Policy, version: int) -> None:
        """Portions that are begun from now on are sampled from `policy` as it is."""
        self._open(policy).publish(Snapshot.of(policy, version))

    def submit(self, prompts: Sequence[Prompt], progress: Progress) -> Drawing:
        """The pairs of a step, on their way. `follow` was called before."""
        assert self._dispatcher and self._policy
        size, sampling, portions = self.portion, self.sampling, []
        for start in range(0, len(prompts), size):
            rows = tuple(prompt.tokens for prompt in prompts[start : start + size] for _ in range(2))
            oldest = progress.step - 1 - self.max_staleness
            request = Request(rows, sampling, progress.seed, 2 * start, oldest)
            portions.append(Portion(progress.step, request))
        self._dispatcher.give(portions)
        return Drawing(self._policy, self._dispatcher, tuple(prompts), tuple(portions))

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        """One pair per prompt, in the order of `prompts`, waited for."""
        self.follow(policy, progress.step - 1)
        return self.submit(prompts, progress).result()

    def measures(self) -> dict[str, float]:
        """How many engines answer, and what went wrong."""
        return dict(self._dispatcher.measures()) if self._dispatcher else {}

    def _open(self, policy: Policy, prompts: Sequence[Prompt] = ()) -> Dispatcher:
        """The dispatcher for `policy`, which is made and begun where there is none yet."""
        if self._dispatcher and self._policy is policy:
            return self._dispatcher
        self.close()
        fit = Fit(embedded_ids(policy.model), self.max_completion_length)
        with said_of("sampler"):
            engines = self.engines(policy, prompts)
            dispatcher = Dispatcher(engines, fit, pause=self.pause, fallback=self.fallback)
            for engine in engines:
                try:
                    engine.greet()
                except EngineError as error:
                    if error.mistaken:
                        dispatcher.close()
                        raise UserError(f"{engine.where} {error.reason.rstrip('.')}.") from error
                    dispatcher.say_lost(engine, error.reason)
        dispatcher.open()
        self._policy, self._dispatcher = policy, dispatcher
        return dispatcher


@define(eq=False, kw_only=True)
class RemoteSampler(ElsewhereSampler):
    """Both completions of each prompt from the policy, drawn by `prefloop worker` on other machines.

    A worker that vanishes costs speed and never the run; its address is tried again, as is one that did not
    answer at the start. Raises `UserError` for a worker that refuses the token or holds another base model.
    """

    workers: tuple[str, ...] = field(
        validator=addresses, metadata={"help": "Addresses of the workers, such as http://10.0.0.2:8139."}
    )
    token_file: str = field(
        validator=instance_of(str), metadata={"help": "File with the token that the workers have too."}
    )

    def engines(self, policy: Policy, prompts: Sequence[Prompt]) -> list[Engine]:
        """The workers. Raises `UserError` where they could not sample for this policy."""
        from prefloop_sampler_remote.client import WorkerEngine
        from prefloop_sampler_remote.holder import digest_of

        only_lora(policy)
        with said_of("token_file"):
            token = read_token(Path(local_path(self.token_file)))
        longest = max((len(prompt.tokens) for prompt in prompts), default=0)
        needs = Limits(rows=2 * self.portion, prompt=longest, completion=self.max_completion_length)
        digest = digest_of(policy.loaded)
        return [WorkerEngine(where, token, digest, needs, self.timeout) for where in self.workers]


@frozen(eq=False)
class Drawing:
    """The pairs of one step, on their way."""

    policy: Policy
    dispatcher: Dispatcher
    prompts: tuple[Prompt, ...]
    portions: tuple[Portion, ...]

    def done(self) -> bool:
        """Whether `result` need not wait."""
        return all(portion.answers is not None for portion in self.portions)

    def result(self) -> list[Pair]:
        """Wait for them. Raises what ends the run."""
        while True:
            self.dispatcher.wait(self.portions, self._here)
            drawn = [self._read(portion) for portion in self.portions]
            if None not in drawn:
                break
        said = [completion for own in drawn if own for completion in own]
        return [Pair(p, said[2 * i], said[2 * i + 1]) for i, p in enumerate(self.prompts)]

    def _here(self, request: Request) -> list[Answer]:
        """The same rows, sampled in this process from the policy, which is the newest version."""
        prompts = [Prompt(tokens, "") for tokens in request.prompts]
        with self.policy.shard(request.first, len(prompts)):
            drawn = self.policy.generate(prompts, request.sampling, seed=request.seed)
        return [Answer(one.tokens, one.stopped, self.dispatcher.version) for one in drawn]

    def _read(self, portion: Portion) -> list[Completion] | None:
        """The completions, read from their ids here; None where an engine reads something else in them."""
        answers, request = portion.answers or [], portion.request
        prompts = [Prompt(tokens, "") for tokens in request.prompts]
        read = self.policy.read([answer.tokens for answer in answers], prompts, request.sampling)
        for answer, one in zip(answers, read, strict=True):
            if answer.text not in (None, one.whole) or answer.stopped != one.stopped:
                self.dispatcher.refuse(portion, "has a tokenizer that reads a completion otherwise")
                return None
        return [one.of_version(a.version) for one, a in zip(read, answers, strict=True)]
