"""The request of the judge page: one or two judges on a few pairs, without training."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from prefloop import UserError
from prefloop.runs.view import read_judgements
from prefloop_studio.answers import Answer, body_of, text_in
from prefloop_studio.processes import run_command
from prefloop_studio.watching import judgement_row

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from prefloop_studio.library import Library

SECONDS = 1800
"""After so long a judge is given up."""
MOST = 200
"""Pairs that are judged at once."""
PLACES = ("first", "second")
"""Of the judges that are tried."""


@frozen
class Trying:
    """Runs `prefloop judge`, in a process of its own."""

    library: Library

    def routes(self) -> list[Route]:
        return [Route("/api/judge", self.judge, methods=["POST"])]

    async def judge(self, request: Request) -> Response:
        """What `prefloop judge` says of ``first``, and of ``second`` where it is given, on ``pairs``.

        A judge is YAML as under the key judge. The pairs are JSON Lines, or those of the run ``run``.
        """
        body = await body_of(request)
        first = text_in(body, "first")
        second = text_in(body, "second") if body.get("second") else None
        run = self.library.path(text_in(body, "run")) if body.get("run") else None
        pairs = "" if run else text_in(body, "pairs")
        return Answer(await run_in_threadpool(judge_pairs, first, second, pairs, run))


def judge_pairs(first: str, second: str | None, pairs: str, run: Path | None) -> dict[str, Any]:
    """What one judge, or two, say of pairs in JSON Lines, or of those of a run. Raises `UserError`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = folder / "pairs.jsonl"
        asked.write_text(pairs, encoding="utf-8", errors="replace")
        files = [folder / "first.yaml", folder / "second.yaml"]
        for file, text in zip(files, (first, second or ""), strict=True):
            file.write_text(_under_judge(text), encoding="utf-8", errors="replace")
        against = ["--against", str(files[1])] if second else []
        ledger = folder / "ledger.jsonl"
        arguments = ["judge", str(files[0]), str(run or asked), *against]
        said = _said([*arguments, "--limit", str(MOST), "--ledger", str(ledger), "--json"], folder)
        judged = read_judgements(ledger).records
    known = list(dict.fromkeys(judgement.judge for judgement in judged))
    rows = [{**judgement_row(row), "by": PLACES[known.index(row.judge)]} for row in judged]
    judges = [{**row, "config": place} for row, place in zip(said["judges"], PLACES, strict=False)]
    return {**said, "file": run.name if run else "pairs", "judges": judges, "verdicts": rows}


def _under_judge(text: str) -> str:
    """A configuration of which only the judge is written."""
    return "judge:\n" + "".join(f"  {line}\n" for line in text.splitlines())


def _said(arguments: list[str], folder: Path) -> dict[str, Any]:
    """The JSON that the command prints. Raises `UserError` with what it says where it fails."""
    done = run_command(arguments, SECONDS, "the judge")
    if done.returncode:
        errors = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.strip()]
        raise UserError(*(line.replace(f"{folder}/", "") for line in errors[-5:] or ["the judge failed."]))
    found: dict[str, Any] = json.loads(done.stdout)
    return found
