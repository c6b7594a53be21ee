"""Coroutines from code that does not run in an event loop: all go to one loop, in a thread of its own.

One loop for the whole process, as the connections that asynchronous clients keep open belong to theirs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any


def begin(calls: Sequence[Callable[[], Awaitable[Any]]]) -> Callable[[], list[Any]]:
    """Begin all calls at once. What is returned waits for their results, or for what they raised instead."""

    async def together() -> list[Any]:
        return await asyncio.gather(*map(_result, calls))

    future = asyncio.run_coroutine_threadsafe(together(), _loop())

    def wait() -> list[Any]:
        try:
            return future.result()
        except BaseException:  # whoever waits has to stop
            future.cancel()
            raise

    return wait


async def _result(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # one that got through would end the loop, and nobody would hear of it
        return error


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="prefloop-functions", daemon=True).start()
    return loop
