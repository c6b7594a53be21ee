"""The requests of the arena: an answer as it is generated, and a pick between two.

The models run in processes of their own (`talker`), at most two of them, which end when nobody talks to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, frozen
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from prefloop import Completion, Judgement, Pair, Prompt, Verdict
from prefloop.runs.files import append_lines
from prefloop.runs.records import JudgeIdentity, judgement_to_json
from prefloop.runs.view import LEDGER
from prefloop_plugins.commands.exporting import export_pairs
from prefloop_studio.answers import Answer, body_of, encode, text_in
from prefloop_studio.labelling import BETTER, MUCH_BETTER
from prefloop_studio.talker import SOURCES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from prefloop_studio.library import Library

MOST_TALKERS = 2
IDLE_SECONDS = 600.0
PICKS = "picks"
"""Folder in a run's folder with the ledger of what was picked in the arena."""
JUDGE = "prefloop-studio:arena"
LIMITS = {"temperature": (0.0, 10.0), "top_p": (1e-6, 1.0), "max_tokens": (1, 8192), "seed": (0, 2**31)}


@define
class _Talking:
    """A process that talks as one run does."""

    process: asyncio.subprocess.Process
    lock: asyncio.Lock = Factory(asyncio.Lock)
    used: float = Factory(time.monotonic)
    ready: bool = False


@frozen
class Arena:
    """Talks with runs, and keeps what people pick."""

    library: Library
    talking: dict[str, _Talking] = Factory(dict)

    def routes(self) -> list[Route]:
        return [
            Route("/api/runs/{run}/talk", self.talk, methods=["POST"]),
            Route("/api/runs/{run}/picks", self.pick, methods=["POST"]),
            Route("/api/runs/{run}/picks", self.picks),
        ]

    async def talk(self, request: Request) -> Response:
        """A stream of what the model ``source`` of a run says to ``messages``."""
        name = request.path_params["run"]
        path = self.library.path(name)
        asked = _asked(await body_of(request))
        return StreamingResponse(self._talk(name, path, asked), media_type="text/event-stream")

    async def pick(self, request: Request) -> Response:
        """Write down which of two answers to a conversation is better: ``choice`` is 1, 2 or t."""
        path = self.library.path(request.path_params["run"])
        judgement = _judgement(await body_of(request))
        return Answer({"picks": await run_in_threadpool(_keep, path, judgement)})

    async def picks(self, request: Request) -> Response:
        """What was picked, as a preference data set; the same as `prefloop export pairs RUN/picks`."""
        path = self.library.path(request.path_params["run"]) / PICKS
        rows = (await run_in_threadpool(export_pairs, path)).rows if path.is_dir() else ()
        disposition = f'attachment; filename="{request.path_params["run"]}-picks.json"'
        return JSONResponse(list(rows), headers={"content-disposition": disposition})

    async def _talk(self, name: str, path: Path, asked: dict[str, Any]) -> AsyncIterator[str]:
        try:
            talking = await self._talker(name, path)
            async with talking.lock:
                async for record in _exchange(talking, asked):
                    yield f"event: said\ndata: {encode(record)}\n\n"
        except (OSError, ValueError) as error:
            self._end(name)
            yield f"event: said\ndata: {encode({'error': f'the model is gone: {error}'})}\n\n"
        except (asyncio.CancelledError, GeneratorExit):  # nobody listens any more, and it would talk on
            self._end(name)
            raise

    async def _talker(self, name: str, path: Path) -> _Talking:
        for other, talking in list(self.talking.items()):
            idle = time.monotonic() - talking.used > IDLE_SECONDS and not talking.lock.locked()
            if idle or talking.process.returncode is not None:
                self._end(other)
        if name not in self.talking:
            while len(self.talking) >= MOST_TALKERS:
                self._end(min(self.talking, key=lambda other: self.talking[other].used))
            pipe = asyncio.subprocess.PIPE
            command = [sys.executable, "-m", "prefloop_studio.talker", str(path)]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=2**22
            )
            self.talking[name] = _Talking(process)
        return self.talking[name]

    def _end(self, name: str) -> None:
        talking = self.talking.pop(name, None)
        if talking is not None:
            with contextlib.suppress(ProcessLookupError):
                talking.process.kill()


async def _exchange(talking: _Talking, asked: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Ask, and give what is said as it comes. Raises `OSError` where the process ends meanwhile."""
    process = talking.process
    assert process.stdin and process.stdout
    if not talking.ready:
        first = await _line(process.stdout)
        if "error" in first:
            yield first
            raise OSError("it could not be loaded")
        talking.ready = True
    process.stdin.write(json.dumps(asked).encode() + b"\n")
    await process.stdin.drain()
    while True:
        record = await _line(process.stdout)
        yield record
        if "done" in record or "error" in record:
            talking.used = time.monotonic()
            return


async def _line(stdout: asyncio.StreamReader) -> dict[str, Any]:
    line = await stdout.readline()
    if not line:
        raise OSError("its process has ended")
    found: dict[str, Any] = json.loads(line)
    return found


def _asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request that a talker understands. Raises `HTTPException` for anything else."""
    if body.get("source") not in SOURCES:
        raise HTTPException(400, f"'source' must be one of {', '.join(SOURCES)}")
    asked: dict[str, Any] = {"source": body["source"], "messages": _messages(body)}
    for name, (least, most) in LIMITS.items():
        value = body.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise HTTPException(400, f"'{name}' must be a number from {least:g} to {most:g}")
        asked[name] = value
    return asked


def _messages(body: Mapping[str, Any]) -> list[dict[str, str]]:
    found = body.get("messages")
    if not isinstance(found, list) or not found or len(found) > 500:
        raise HTTPException(400, "'messages' must be a list of turns")
    for turn in found:
        texts = isinstance(turn, dict) and all(isinstance(turn.get(key), str) for key in ("role", "content"))
        if not texts or turn["role"] not in ("system", "user", "assistant"):
            raise HTTPException(400, "a turn must have a 'role' (system, user or assistant) and a 'content'")
    return [{"role": turn["role"], "content": turn["content"]} for turn in found]


def _judgement(body: dict[str, Any]) -> Judgement:
    """A pick as a judgement. Raises `HTTPException` where it is none."""
    messages = _messages(body)
    first, second = (Completion((), text_in(body, side)) for side in ("first", "second"))
    choice, step = body.get("choice"), body.get("step")
    if choice not in ("1", "2", "t"):
        raise HTTPException(400, "'choice' must be 1, 2 or t")
    sure = MUCH_BETTER if body.get("much") else BETTER
    verdict = Verdict.tie() if choice == "t" else Verdict(sure if choice == "1" else 1.0 - sure)
    prompt = Prompt((), messages[-1]["content"], tuple(messages))
    judge = JudgeIdentity(JUDGE, importlib.metadata.version("prefloop-studio"), "")
    return Judgement(step if isinstance(step, int) else 0, Pair(prompt, first, second), verdict, judge)


def _keep(run: Path, judgement: Judgement) -> int:
    """Write a pick down; how many there are."""
    folder = run / PICKS
    folder.mkdir(exist_ok=True)
    append_lines(folder / LEDGER, [judgement_to_json(judgement)])
    return len(export_pairs(folder).rows)
