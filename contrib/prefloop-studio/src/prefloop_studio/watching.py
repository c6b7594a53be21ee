"""What the pages see of one run: its card, its curves, its pairs, its log, and what is new in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from attrs import frozen
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.routing import Route

from prefloop import Evaluation, StepMetrics, UserError
from prefloop.runs.holding import holder_of
from prefloop.runs.view import LEDGER, LOG
from prefloop_studio.answers import Answer, encode, number_in
from prefloop_studio.checks import checks
from prefloop_studio.series import MOST_POINTS, ColumnCache, evaluation_row, latest, points, table
from prefloop_studio.tail import tail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from prefloop import Judgement, RunView
    from prefloop_studio.library import Library

NEWEST_PAIRS = 20
SPARK_POINTS = 60
_LOOKS = 0.5
"""Seconds between looks at a run that is going on."""
_BEAT = 15.0
"""Seconds after which a stream says that it is still there."""
_LINES = 500
"""Lines of a log that are sent at once."""


@frozen
class Watching:
    """The requests that read runs. Nothing here changes one."""

    library: Library
    columns: ColumnCache

    def routes(self) -> list[Route]:
        return [
            Route("/api/runs", self.cards),
            Route("/api/runs/{run}", self.one),
            Route("/api/runs/{run}/series", self.series),
            Route("/api/runs/{run}/judgements", self.judgements),
            Route("/api/runs/{run}/evaluations", self.evaluations),
            Route("/api/runs/{run}/log", self.log),
            Route("/api/runs/{run}/checks", self.checks),
            Route("/api/runs/{run}/events", self.events),
        ]

    async def cards(self, _: Request) -> Response:
        """Every run with its state, its last numbers and a few points of its win rate and loss."""
        return Answer(await run_in_threadpool(lambda: [self._card(name) for name in self.library.names()]))

    async def one(self, request: Request) -> Response:
        """A run with its plan, its configuration, and how it ended."""
        return Answer(await run_in_threadpool(self._one, request.path_params["run"]))

    async def series(self, request: Request) -> Response:
        """Curves by ``names`` (by default all), at most ``points`` of each, and the cursor after them."""
        path = self.library.path(request.path_params["run"])
        names = [name for name in request.query_params.get("names", "").split(",") if name]
        most = max(2, number_in(request, "points", MOST_POINTS, MOST_POINTS))
        return Answer(await run_in_threadpool(self._series, path, names, most))

    async def judgements(self, request: Request) -> Response:
        """The pairs judged after ``cursor``, at most the ``last`` ones."""
        run = self.library.open(request.path_params["run"])
        cursor = number_in(request, "cursor", 0)
        last = number_in(request, "last", NEWEST_PAIRS, 1000)
        return Answer(await run_in_threadpool(_judgements, run, cursor, last))

    async def evaluations(self, request: Request) -> Response:
        """All evaluations with their pairs; those of `prefloop eval` by the names of their files."""
        run = self.library.open(request.path_params["run"])
        return Answer(await run_in_threadpool(_evaluations, run))

    async def log(self, request: Request) -> Response:
        """The lines of the log after ``cursor``, at most the last 500."""
        run = self.library.open(request.path_params["run"])
        return Answer(await run_in_threadpool(_log, run, number_in(request, "cursor", 0)))

    async def checks(self, request: Request) -> Response:
        """What the report's validity checks say of the run as it is now."""
        path = self.library.path(request.path_params["run"])
        return Answer(await run_in_threadpool(checks, path))

    async def events(self, request: Request) -> Response:
        """A stream of what is new after the cursors ``metrics``, ``judgements`` and ``log``, as it comes."""
        path = self.library.path(request.path_params["run"])
        cursors = {name: number_in(request, name, 0) for name in ("metrics", "judgements", "log")}
        stream = _Stream(self, path, cursors)
        return StreamingResponse(stream.events(request), media_type="text/event-stream")

    def _card(self, name: str) -> dict[str, Any]:
        try:
            run = self.library.open(name)
            columns = self.columns(run.path)
            losses = points(columns, ["loss"], SPARK_POINTS)["values"].get("loss", [])
            rates = [e["win_rate"]["rate"] for e in columns.evaluations]
            step = int(columns.steps[-1]) if len(columns.steps) else 0
            return {
                **state_of(run),
                "step": step,
                "latest_loss": latest(columns, "loss"),
                "spark": {"loss": losses, "win_rate": rates},
                **_made_with(run),
            }
        except (HTTPException, UserError) as error:
            return {"run": name, "status": "damaged", "reason": str(error)}

    def _one(self, name: str) -> dict[str, Any]:
        run = self.library.open(name)
        return {
            **state_of(run),
            "plan": run.plan_lines,
            "config": run.config_text,
            "settings": run.settings,
            "manifest": run.manifest,
            "checkpoints": list(run.checkpoints()),
            "problems": [str(damage) for damage in run.problems],
        }

    def _series(self, path: Path, names: list[str], most: int) -> dict[str, Any]:
        columns = self.columns(path)
        found = points(columns, names or sorted(columns.values), most)
        rows = {"table": table(columns), "evaluations": columns.evaluations}
        return {**found, **rows, "names": sorted(columns.values), "cursor": columns.cursor}


@frozen
class _Stream:
    """One page's view of a run: only what its cursors have not seen."""

    watching: Watching
    path: Path
    cursors: dict[str, int]

    async def events(self, request: Request) -> AsyncIterator[str]:
        state: dict[str, Any] = {}
        quiet = 0.0
        while not await request.is_disconnected():
            found = await run_in_threadpool(self._look, state)
            for event, data in found:
                yield f"event: {event}\ndata: {encode(data)}\n\n"
            quiet = 0.0 if found else quiet + _LOOKS
            if quiet >= _BEAT:
                quiet = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(_LOOKS)

    def _look(self, state: dict[str, Any]) -> list[tuple[str, Any]]:
        """What is new, by the name of the event."""
        try:
            run = self.watching.library.open(self.path.name)
        except (HTTPException, UserError) as error:  # renamed, deleted or damaged
            return _changed(state, {"status": "gone", "reason": str(error)})
        found = [*self._metrics(run), *self._pairs(run), *self._log(run)]
        return found + _changed(state, state_of(run))

    def _metrics(self, run: RunView) -> list[tuple[str, Any]]:
        new = run.metrics(self.cursors["metrics"])
        self.cursors["metrics"] = new.cursor
        steps = [{"step": r.step, **r.metrics} for r in new.records if isinstance(r, StepMetrics)]
        made = [evaluation_row(r) for r in new.records if isinstance(r, Evaluation)]
        data = {"steps": steps, "evaluations": made, "cursor": new.cursor, "restarted": new.restarted}
        return [("metrics", data)] if steps or made or new.restarted else []

    def _pairs(self, run: RunView) -> list[tuple[str, Any]]:
        found = _judgements(run, self.cursors["judgements"], NEWEST_PAIRS)
        self.cursors["judgements"] = found["cursor"]
        return [("judgements", found)] if found["judgements"] or found["restarted"] else []

    def _log(self, run: RunView) -> list[tuple[str, Any]]:
        found = _log(run, self.cursors["log"])
        self.cursors["log"] = found["cursor"]
        return [("log", found)] if found["lines"] or found["restarted"] else []


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any]]:
    if before == now:
        return []
    before.clear()
    before.update(now)
    return [("state", now)]


def state_of(run: RunView) -> dict[str, Any]:
    """Where a run stands, as its card and its head show it."""
    process = holder_of(run.path)
    plan = run.plan
    return {
        "run": run.name,
        "status": run.status,
        "alive": process is not None,
        "reason": run.manifest.get("reason"),
        "started": run.manifest.get("started"),
        "ended": run.manifest.get("ended"),
        "planned": plan.steps if plan else None,
        "summary": {k: v for k, v in run.summary.items() if k != "examples"},
        "asks_a_person": run.asks_a_person,
        "report": (run.path / "report.html").is_file(),
    }


def _made_with(run: RunView) -> dict[str, Any]:
    settings = run.settings

    def use(kind: str) -> Any:
        return (settings.get(kind) or {}).get("use")

    kinds = {kind: use(kind) for kind in ("algorithm", "judge", "loss")}
    return {**kinds, "model": (settings.get("model") or {}).get("path")}


def _judgements(run: RunView, cursor: int, last: int) -> dict[str, Any]:
    new = run.judgements(cursor or tail(run.path / LEDGER, last))
    rows = [judgement_row(judgement) for judgement in new.records[-last:]] if last else []
    return {"judgements": rows, "cursor": new.cursor, "restarted": new.restarted}


def judgement_row(judgement: Judgement) -> dict[str, Any]:
    """A judged pair as the pages show it."""
    pair, verdict = judgement.pair, judgement.verdict
    return {
        "key": judgement.key,
        "step": judgement.step,
        "evaluation": judgement.evaluation,
        "judge": judgement.judge.name,
        "prompt": pair.prompt.text,
        "messages": [dict(message) for message in pair.prompt.messages or ()],
        "first": {"text": pair.first.text, "stopped": pair.first.stopped},
        "second": {"text": pair.second.text, "stopped": pair.second.stopped},
        "status": verdict.status,
        "probability": verdict.probability,
        "orders": verdict.orders,
        "reason": verdict.reason,
    }


def _evaluations(run: RunView) -> dict[str, Any]:
    def rows(found: Evaluation) -> dict[str, Any]:
        pairs = [
            {
                "prompt": pair.prompt.text,
                "id": pair.prompt.id,
                "ours": pair.first.text,
                "theirs": pair.second.text,
                "status": verdict.status,
                "probability": verdict.probability,
            }
            for pair, verdict in zip(found.pairs, found.verdicts, strict=False)
        ]
        return {**evaluation_row(found), "against": found.against, "pairs": pairs}

    others = {name: rows(made) for name, made in run.other_evaluations().items()}
    return {"training": [rows(made) for made in run.evaluations()], "others": others}


def _log(run: RunView, cursor: int) -> dict[str, Any]:
    new = run.log(cursor or tail(run.path / LOG, _LINES))
    return {"lines": list(new.records[-_LINES:]), "cursor": new.cursor, "restarted": new.restarted}
