"""The `openai` judge: a model behind any OpenAI-compatible server says which answer is better."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import takewhile
from queue import SimpleQueue
from typing import Any, Literal, cast

from attrs import Factory, define, field
from attrs.validators import and_, ge, gt, in_, instance_of, le, lt, min_len, optional

from prefloop import BaseJudge, Pair, StopRun, UserError, Verdict
from prefloop_judge_openai import checks
from prefloop_judge_openai.budget import Budget, BudgetSpentError
from prefloop_judge_openai.defuse import defuse
from prefloop_judge_openai.key import USUAL_NAME, Key, is_loopback
from prefloop_judge_openai.reading import Read, UnreadableError, read
from prefloop_judge_openai.server import FailedError, Halt, HaltedError, Patience, Server
from prefloop_plugins.questions import (
    DEFAULT_RUBRIC,
    MIN_LABEL_MASS,
    fence_for,
    user_message,
    whole_transcript,
)

Orders = Literal["both", "random", "fixed"]
OnFailure = Literal["error", "stop"]
Question = tuple[str, str, str]
"""Prompt, the answer shown first, the answer shown second."""
Answer = float | str | None
"""P(the answer shown first is better), or why there is none, or None where it was not asked."""
Tell = Callable[[int, Verdict], None]
"""Takes the place of a pair and its verdict."""

TOP_LOGPROBS = 10
"""Likeliest tokens asked for; some servers give no more than 11, others 20."""


def _budget_of(judge: OpenAiJudge) -> Budget:
    return Budget(judge.max_requests, judge.max_tokens_total)


@define
class OpenAiJudge(BaseJudge):
    """Asks a chat model over HTTP, many pairs at a time.

    ``P(first is better)`` comes from the log-probabilities of the first answer token where the server
    gives them, else from the reply, and is averaged over both orders of the answers. Whatever goes wrong
    with a pair makes an error verdict, never a label.

    `submit` asks in the background and returns at once; `answers` tells each verdict as it comes, so that
    none that was paid for is lost. Raises `UserError` where the server cannot be asked at all, and
    `StopRun` where the budget is spent or `on_failure` says so.
    """

    model: str = field(
        validator=and_(instance_of(str), min_len(1)),
        metadata={"help": "The model's name on the server; default_model for mlx_lm.server."},
    )
    base_url: str = field(
        default=checks.SERVER_HERE,
        validator=checks.address,
        metadata={
            "identity": False,
            "help": "Where the server is, with /v1 at the end; the default is mlx_lm.server's.",
        },
    )
    api_key_env: str | None = field(
        default=USUAL_NAME,
        validator=checks.variable_name,
        metadata={
            "identity": False,
            "help": "The environment variable that holds the key, or null for none.",
        },
    )
    system: str = field(
        default=DEFAULT_RUBRIC,
        validator=instance_of(str),
        metadata={"help": "The rubric, given as the system prompt word for word."},
    )
    orders: Orders = field(
        default="both",
        validator=in_(("both", "random", "fixed")),
        metadata={"help": "Ask in both orders of the answers, in a random one, or as sampled."},
    )
    labels: tuple[str, str] = field(
        default=("A", "B"),
        converter=checks.as_labels,
        validator=checks.two_labels,
        metadata={"help": "What the judge calls the two answers."},
    )
    read: Read = field(
        default="auto",
        validator=in_(("auto", "logprobs", "reply")),
        metadata={"help": "Read log-probabilities, the written reply, or the first if given (auto)."},
    )
    min_label_mass: float = field(
        default=MIN_LABEL_MASS,
        validator=[ge(0), le(1)],
        metadata={
            "help": "Log-probabilities count where both labels have at least this together: below one half "
            "the judge would sooner write something else."
        },
    )
    tie_margin: float = field(
        default=0.01,
        validator=[ge(0), lt(0.5)],
        metadata={"help": "A probability at most this far from one half is a tie."},
    )
    max_tokens: int = field(
        default=8,
        validator=gt(0),
        metadata={"help": "Tokens of a reply, at most; a model that thinks first needs many."},
    )
    temperature: float = field(
        default=0.0, validator=ge(0), metadata={"help": "Of the judge's own sampling; 0 is greedy."}
    )
    request: Mapping[str, Any] = field(
        factory=dict,
        validator=checks.further_fields,
        metadata={"help": "Further fields of each request, as the server calls them; null removes one."},
    )
    concurrency: int = field(
        default=8,
        validator=gt(0),
        metadata={"identity": False, "help": "Requests under way at the same time, at most."},
    )
    timeout: float = field(
        default=60.0,
        validator=gt(0),
        metadata={"identity": False, "help": "Seconds to wait for a whole reply."},
    )
    retries: int = field(
        default=4,
        validator=ge(0),
        metadata={"identity": False, "help": "How often to try again where a fault may pass."},
    )
    backoff: float = field(
        default=0.5,
        validator=ge(0),
        metadata={"identity": False, "help": "Seconds before the first retry, about; doubled each time."},
    )
    max_wait: float = field(
        default=120.0,
        validator=ge(0),
        metadata={
            "identity": False,
            "help": "Seconds to wait before a retry, at most; a server that asks for more has failed.",
        },
    )
    max_requests: int | None = field(
        default=None,
        validator=optional(and_(instance_of(int), gt(0))),
        metadata={"identity": False, "help": "Stop the run before it makes more requests, retries included."},
    )
    max_tokens_total: int | None = field(
        default=None,
        validator=optional(and_(instance_of(int), gt(0))),
        metadata={
            "identity": False,
            "help": "Stop the run before it takes more tokens, questions and replies together.",
        },
    )
    on_failure: OnFailure = field(
        default="error",
        validator=in_(("error", "stop")),
        metadata={
            "identity": False,
            "help": "After the last retry: an error for this pair (no weight), or stop the run.",
        },
    )
    _budget: Budget = field(init=False, default=Factory(_budget_of, takes_self=True), repr=False, eq=False)
    _server: Any = field(init=False, default=None, repr=False, eq=False)

    def prepare(self) -> None:
        """Ask one question, to see that the server is there and knows the model and the key.

        Raises `UserError` where waiting would not help.
        """
        server = self._open()
        try:
            server.submit(self._check(server)).result()
        except FailedError as failure:
            raise UserError(self._complaint(failure)) from None
        except BudgetSpentError as spent:
            raise UserError(f"not even one question can be asked: {spent}.") from None

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair. Raises `StopRun` with the verdicts so far where the run must end."""
        future = self.submit(pairs)
        try:
            return future.result()
        except BaseException:  # an interrupt, too, ends what is under way
            future.cancel()
            raise

    def submit(self, pairs: Sequence[Pair]) -> Future[list[Verdict]]:
        """Begin to judge in the background; the future's ``result()`` is what `judge` returns or raises."""
        server = self._open()
        return server.submit(self._judge_all(server, list(pairs), lambda place, verdict: None))

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """Each verdict as it comes, with the place of its pair. Raises what `judge` raises, at the end."""
        server = self._open()
        arrived: SimpleQueue[tuple[int, Verdict] | None] = SimpleQueue()
        work = self._judge_all(server, list(pairs), lambda place, verdict: arrived.put((place, verdict)))
        future = server.submit(work)
        future.add_done_callback(lambda _: arrived.put(None))
        try:
            yield from iter(arrived.get, None)
            future.result()
        finally:
            future.cancel()

    def swaps(self, pair: Pair) -> bool:
        """Whether the pair's second answer is shown first where it is asked only once.

        The same for the same pair every time, so that a resumed run asks as it did before.
        """
        if self.orders != "random":
            return False
        return bool(hashlib.sha256("\0".join(_texts(pair)).encode()).digest()[0] & 1)

    def close(self) -> None:
        """End the background thread. The judge opens another when it is next asked."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _judge_all(self, server: Server, pairs: Sequence[Pair], tell: Tell) -> list[Verdict]:
        halt = Halt()
        asked = [self._questions(pair) for pair in pairs]
        distinct = dict.fromkeys(question for questions in asked for question in questions)
        answers = {q: asyncio.ensure_future(self._ask(server, q, halt)) for q in distinct}

        async def judge_one(place: int) -> Verdict | None:
            known = await asyncio.gather(*(answers[question] for question in asked[place]))
            verdict = self._verdict(pairs[place], known)
            if verdict is not None:
                tell(place, verdict)
            return verdict

        verdicts = await asyncio.gather(*map(judge_one, range(len(pairs))))
        judged = list(takewhile(lambda verdict: verdict is not None, verdicts))
        if len(judged) < len(pairs):
            raise StopRun(str(halt.reason), cast("list[Verdict]", judged), failed=halt.failed)
        return cast("list[Verdict]", judged)

    async def _ask(self, server: Server, question: Question, halt: Halt) -> Answer:
        """P(the answer shown first is better), or the reason why it is not known."""
        try:
            return await self._read(server, question, halt)
        except UnreadableError as error:
            return str(error)
        except FailedError as failure:
            if self.on_failure == "error" and not failure.hopeless:
                return str(failure)
            halt(f"the judge at {self.base_url} failed: {failure}", failed=True)
        except BudgetSpentError as spent:
            halt(f"the judge's budget is spent: {spent}")
        except HaltedError:
            pass
        return None

    async def _read(
        self, server: Server, question: Question, halt: Halt, *, retries: int | None = None
    ) -> float:
        def request() -> dict[str, Any]:
            return self._request(question, self.read != "reply" and server.has_logprobs)

        try:
            reply = await server.ask(request, halt, retries=retries)
        except FailedError as failure:
            if self.read != "auto" or not _refuses_logprobs(failure):
                raise
            server.has_logprobs = False
            reply = await server.ask(request, halt, retries=retries)
        return read(reply, self.labels, self.read, self.min_label_mass)

    async def _check(self, server: Server) -> None:
        try:
            await self._read(server, ("What is 2 + 2?", "It is 4.", "It is 5."), Halt(), retries=0)
        except UnreadableError:  # of this question; the run counts what it cannot read
            return
        except FailedError as failure:
            if not failure.retry or failure.fault in ("unreachable", "malformed"):
                raise

    def _request(self, question: Question, logprobs: bool) -> dict[str, Any]:
        prompt, first, second = question
        text = user_message(prompt, first, second, labels=self.labels, fence=fence_for(*question))
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": self.system}, {"role": "user", "content": text}],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        if logprobs:
            request |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        request |= self.request
        return {name: value for name, value in request.items() if value is not None}

    def _questions(self, pair: Pair) -> list[Question]:
        """What to ask about a pair; nothing where both answers are the same."""
        texts = (whole_transcript(pair.prompt), pair.first.text, pair.second.text)
        prompt, first, second = (defuse(_sendable(text)) for text in texts)
        as_given, swapped = (prompt, first, second), (prompt, second, first)
        if pair.first.text == pair.second.text:
            return []
        if self.orders == "both":
            return [as_given, swapped]
        return [swapped if self.swaps(pair) else as_given]

    def _verdict(self, pair: Pair, answers: Sequence[Answer]) -> Verdict | None:
        """The verdict from the answers to `_questions`, or None where one of them was not asked."""
        if None in answers:
            return None
        if not answers:
            return Verdict.tie("both answers are the same")
        known = [answer for answer in answers if isinstance(answer, float)]
        if len(known) < len(answers):
            return Verdict.error(next(str(answer) for answer in answers if isinstance(answer, str)))
        orders = None
        if self.orders == "both":
            orders = (known[0], 1.0 - known[1])
            probability = 0.5 + (known[0] - known[1]) / 2
        else:
            probability = 1.0 - known[0] if self.swaps(pair) else known[0]
        return Verdict.from_probability(probability, tie_margin=self.tie_margin, orders=orders)

    def _open(self) -> Server:
        if self._server is None:
            server = Server(
                self.base_url,
                Key.from_environment(self.api_key_env, self.base_url),
                concurrency=self.concurrency,
                patience=Patience(self.timeout, self.retries, self.backoff, self.max_wait),
                budget=self._budget,
            )
            weakref.finalize(self, server.close)
            self._server = server
        opened: Server = self._server
        return opened

    def _complaint(self, failure: FailedError) -> str:
        """What is wrong at the start, with the likeliest remedy."""
        where = f"the judge at {self.base_url} cannot be asked: {failure}."
        if failure.fault == "unreachable" and is_loopback(self.base_url):
            return f"{where} Is the server running?"
        if failure.status == 401:
            return f"{where} Put the key into the environment variable {self.api_key_env or USUAL_NAME}."
        if failure.status == 404:
            return f"{where} Does 'base_url' end as the server wants it (/v1), and is 'model' its name?"
        return where


def _refuses_logprobs(failure: FailedError) -> bool:
    return failure.status is not None and 400 <= failure.status < 500 and "logprob" in str(failure)


def _texts(pair: Pair) -> tuple[str, str, str]:
    """What the random order of a pair depends on."""
    return _sendable(pair.prompt.text), _sendable(pair.first.text), _sendable(pair.second.text)


def _sendable(text: str) -> str:
    """`text` as it can be sent: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
