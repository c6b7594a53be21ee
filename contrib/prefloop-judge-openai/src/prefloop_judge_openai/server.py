"""One OpenAI-compatible server, asked from a thread of its own: concurrency, retries, budget.

The event loop runs in the background, so that whoever submits a batch can do other work until it asks for
the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

import openai
from attrs import evolve, frozen

from prefloop_judge_openai.budget import Budget
from prefloop_judge_openai.key import Key, is_loopback
from prefloop_judge_openai.reading import MalformedError, Reply, parse_reply, shown

T = TypeVar("T")
MakeRequest = Callable[[], Mapping[str, Any]]
Fault = Literal["unreachable", "timeout", "malformed", "refused"]

LONGEST_BACKOFF = 60.0
"""Seconds between two tries, at most, where the server does not say how long to wait."""
BYTES_PER_TOKEN = 3
"""On the low side for most languages and tokenizers, so that a request rarely takes more than estimated."""
TRANSIENT = frozenset({408, 409, 425, 429})


class FailedError(Exception):
    """The server gave no usable reply, and `fault` says in which way.

    `retry` where the fault may pass, `hopeless` where no later request can do better (a refused key).
    `wait` is how many seconds the server asks to wait.
    """

    def __init__(
        self,
        reason: str,
        fault: Fault,
        *,
        status: int | None = None,
        retry: bool = True,
        hopeless: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.fault = fault
        self.status = status
        self.retry = retry
        self.hopeless = hopeless
        self.wait = wait


class HaltedError(Exception):
    """The batch was halted before this request got its reply."""


class Halt:
    """Tells the requests of one batch to begin nothing more. Those under way are still waited for."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.failed = False
        self._event = asyncio.Event()

    def __call__(self, reason: str, *, failed: bool = False) -> None:
        """Halt, for the first reason given. `failed` says that something is wrong."""
        if self.reason is None:
            self.reason, self.failed = reason, failed
            self._event.set()

    def check(self) -> None:
        """Raises `HaltedError` once halted."""
        if self.reason is not None:
            raise HaltedError

    async def sleep(self, seconds: float) -> None:
        """Wait so long, unless halted. Raises `HaltedError` where it is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self.check()


@frozen
class Patience:
    """How long to wait for a reply, and how often to try again. All times in seconds."""

    timeout: float
    retries: int
    backoff: float
    max_wait: float

    def delay(self, attempt: int) -> float:
        """Exponential backoff with jitter before retry number `attempt` (from 0)."""
        longest = min(LONGEST_BACKOFF, self.max_wait, self.backoff * 2.0**attempt)
        return longest * random.uniform(0.5, 1.0)


class Server:
    """Sends chat completion requests, `concurrency` at a time at most."""

    def __init__(
        self, base_url: str, key: Key, *, concurrency: int, patience: Patience, budget: Budget
    ) -> None:
        self.base_url = base_url
        self.key = key
        self.patience = patience
        self.budget = budget
        self.has_logprobs = True
        """False once the server has refused to give log-probabilities."""
        self._quiet_until = 0.0
        self._slots = asyncio.Semaphore(concurrency)
        self._client = openai.AsyncOpenAI(
            api_key=key.reveal(),
            base_url=base_url,
            timeout=patience.timeout,
            max_retries=0,  # tries are counted here, where the budget sees them
            http_client=openai.DefaultAsyncHttpxClient(trust_env=not is_loopback(base_url)),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="prefloop-judge", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run `work` in the background. Cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what is under way and end the thread. Nothing can be submitted afterwards."""
        if self._loop.is_closed():
            return
        self.submit(self._shut_down())
        if threading.current_thread() is not self._thread:  # its judge may be collected in this very thread
            self._thread.join(timeout=5)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def ask(self, request: MakeRequest, halt: Halt, *, retries: int | None = None) -> Reply:
        """The reply to one request, after retries where the fault may pass. It is made when its turn comes.

        Raises `FailedError` where there is none, `HaltedError` where `halt` came first, and
        `BudgetSpentError`.
        """
        retries = self.patience.retries if retries is None else retries
        for attempt in range(retries + 1):
            try:
                return await self._try(request, halt)
            except FailedError as failure:
                if not failure.retry or attempt == retries:
                    raise
                await halt.sleep(self._wait(failure, attempt))
        raise AssertionError("unreachable")

    async def _try(self, make: MakeRequest, halt: Halt) -> Reply:
        async with self._slots:
            while (wait := self._quiet_until - time.monotonic()) > 0:
                await halt.sleep(wait)
            halt.check()
            request = make()
            estimate = estimate_tokens(request)
            self.budget.reserve(estimate)
            reply = await self._within_time(self._send(request))
            self.budget.settle(estimate, reply.tokens)
            return reply

    async def _within_time(self, sending: Awaitable[str]) -> Reply:
        body = ""
        try:
            async with asyncio.timeout(self.patience.timeout):  # the client's own limit is for each read
                body = await sending
            reply = parse_reply(body)
            return evolve(reply, text=self.key.hide(reply.text))
        except (TimeoutError, openai.APITimeoutError):
            raise FailedError(f"no reply within {self.patience.timeout:g} s", "timeout") from None
        except MalformedError:
            said = shown(self.key.hide(body))
            raise FailedError(f"the reply is no chat completion: {said}", "malformed") from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except (openai.APIConnectionError, OSError) as error:
            cause = error.__cause__ or error
            detail = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
            raise FailedError(self.key.hide(f"no connection: {detail}"), "unreachable") from None

    async def _send(self, request: Mapping[str, Any]) -> str:
        more = {name: value for name, value in request.items() if name not in ("model", "messages")}
        raw = await self._client.chat.completions.with_raw_response.create(
            model=request["model"], messages=request["messages"], extra_body=more
        )
        return raw.http_response.text

    def _refusal(self, error: openai.APIStatusError) -> FailedError:
        status, reason = error.status_code, f"the server answered {error.status_code}: {self._said(error)}"
        out_of_money = "insufficient_quota" in (error.code, error.type)
        retry = (status >= 500 or status in TRANSIENT) and not out_of_money
        wait = retry_after(error.response.headers) if retry else None
        if wait is not None and wait > self.patience.max_wait:
            retry, reason = False, f"{reason}; it asks to wait {wait:.0f} s, longer than 'max_wait'"
        hopeless = status == 401 or out_of_money
        return FailedError(reason, "refused", status=status, retry=retry, hopeless=hopeless, wait=wait)

    def _said(self, error: openai.APIStatusError) -> str:
        """What the server says, whichever way it packs it."""
        body = error.body
        while isinstance(body, Mapping):
            body = body.get("message") or body.get("error") or body.get("detail") or str(dict(body))
        return shown(self.key.hide(str(body or error.response.reason_phrase)), 200)

    def _wait(self, failure: FailedError, attempt: int) -> float:
        """Seconds until the next try. Where the server names them, all requests keep quiet so long."""
        delay = self.patience.delay(attempt)
        if failure.wait is None:
            return delay
        self._quiet_until = max(self._quiet_until, time.monotonic() + failure.wait)
        return failure.wait + random.uniform(0.0, delay)

    async def _shut_down(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await self._client.close()
        self._loop.stop()


def estimate_tokens(request: Mapping[str, Any]) -> int:
    """About how many tokens a request may take, reply included."""
    texts = (message["content"] for message in request["messages"])
    longest_reply = request.get("max_completion_tokens") or request.get("max_tokens") or 0
    return sum(len(text.encode("utf-8", "replace")) for text in texts) // BYTES_PER_TOKEN + int(longest_reply)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` (RFC 9110, section 10.2.3) asks for: a number or a date."""
    said = headers.get("retry-after", "").strip()
    with contextlib.suppress(ValueError):
        return max(0.0, float(said)) if float(said) < float("inf") else None
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    return None
