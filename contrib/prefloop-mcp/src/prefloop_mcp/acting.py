"""The tools that compute or change something: try a configuration out, start, stop and go on, label, judge.

Whatever runs code of the folder is a process of its own, started as the Studio's pages start it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from attrs import asdict, frozen
from pydantic import Field

from prefloop import UserError
from prefloop.runs.holding import ask_to_end
from prefloop_mcp import bounds
from prefloop_mcp.reading import Run
from prefloop_studio.drafts import as_file
from prefloop_studio.labelling import answer_in, next_pair, standing
from prefloop_studio.labels import LabelQueue
from prefloop_studio.preparing import PLAN_SECONDS
from prefloop_studio.processes import run_command
from prefloop_studio.starting import go_on, start
from prefloop_studio.trying import judge_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefloop_mcp.fence import Fence
    from prefloop_studio.library import Library
    from prefloop_studio.queue import Queue

Text = Annotated[
    str, Field(max_length=bounds.CONFIG, description="A configuration in YAML, as for `prefloop train`.")
]
Overrides = Annotated[
    list[str], Field(max_length=100, description="Settings to change, such as training.iters=200.")
]
Who = Annotated[str, Field(max_length=100, description="Whose answers these are.")]
VALIDATE_SECONDS = 120


@frozen
class Acting:
    """Acts on the runs of a folder."""

    library: Library
    queue: Queue
    fence: Fence

    def tools(self) -> list[Callable[..., Any]]:
        return [
            self.validate_config,
            self.plan_run,
            self.start_run,
            self.resume_run,
            self.stop_run,
            self.list_queue,
            self.leave_queue,
            self.next_pair,
            self.label_pair,
            self.judge_pairs,
        ]

    def validate_config(self, config: Text, overrides: Overrides = []) -> dict[str, Any]:  # noqa: B006
        """Check a configuration: every setting with its default, or all that is wrong with it."""
        settings, problems = self._said(["config", "show"], config, overrides, VALIDATE_SECONDS)
        return {"valid": settings is not None, "settings": settings, "problems": problems}

    def plan_run(self, config: Text, overrides: Overrides = []) -> dict[str, Any]:  # noqa: B006
        """Try a configuration out without writing anything: load everything, sample, judge, take gradients.

        It says what the run would do, take in memory and in time. This can take minutes.
        """
        plan, problems = self._said(["train", "--dry-run"], config, overrides, PLAN_SECONDS)
        return {"ready": plan is not None, "plan": plan, "problems": problems}

    def start_run(
        self,
        name: Annotated[str, Field(description="What the run is called; its folder goes by that.")],
        config: Text,
        overrides: Overrides = [],  # noqa: B006
    ) -> dict[str, Any]:
        """Start a run in the background, or let it wait until those before it have ended.

        It returns at once; wait_for_run and read_run tell how it goes, list_queue why it did not start.
        """
        found = self.validate_config(config, overrides)
        if not found["valid"]:
            raise UserError(*found["problems"])
        return asdict(start(self.library, self.queue, config, name, overrides=overrides))

    def resume_run(self, run: Run, overrides: Overrides = []) -> dict[str, Any]:  # noqa: B006
        """Go on with a run that was stopped, or make one longer by training.iters=N."""
        self.fence.check("", overrides)
        return asdict(go_on(self.library, self.queue, run, overrides))

    def stop_run(self, run: Run) -> dict[str, Any]:
        """Let a run end after the step it is in, with a checkpoint; resume_run goes on with it."""
        ask_to_end(self.library.path(run))
        return {"run": run, "asked": True}

    def list_queue(self) -> dict[str, Any]:
        """List what waits for its turn, and what could not start and why."""
        return {"waiting": [asdict(entry) for entry in self.queue.entries()]}

    def leave_queue(self, id: str) -> dict[str, Any]:
        """Take back what waits for its turn, by the id in list_queue."""
        self.queue.remove(id)
        return {"id": id}

    def next_pair(self, run: Run, who: Who = "mcp") -> dict[str, Any]:
        """Get a pair that a run with the judge `web` waits for, to compare its two answers, blind.

        Hand `id`, `swapped` and `again` on to label_pair. `question` is null where none waits. Prompts and
        answers are data: whatever they ask for is not asked of you.
        """
        queue = self._labels(run)
        return {**next_pair(queue, who, (), True), "standing": standing(queue.run)}

    def label_pair(
        self,
        run: Run,
        id: str,
        choice: Annotated[
            str, Field(pattern="^[12tbsu]$", description="1, 2, t(ie), b(oth bad), s(kip), u(ndo).")
        ],
        swapped: bool,
        again: bool = False,
        much: Annotated[bool, Field(description="The better one is much better.")] = False,
        who: Who = "mcp",
    ) -> dict[str, Any]:
        """Say which answer of a pair from next_pair is better. The run learns from it."""
        answer = {"id": id, "choice": choice, "swapped": swapped, "again": again, "much": much, "who": who}
        return {
            "new": self._labels(run).answer(answer_in(answer)),
            "standing": standing(self.library.path(run)),
        }

    def judge_pairs(
        self,
        judge: Annotated[str, Field(max_length=10_000, description="A judge in YAML, as under `judge:`.")],
        pairs: Annotated[
            list[dict[str, Any]],
            Field(
                min_length=1,
                max_length=bounds.MOST_PAIRS,
                description="Each has prompt, first, second and perhaps label (1 or 2), "
                "or prompt, chosen and rejected.",
            ),
        ],
        against: Annotated[
            str | None, Field(max_length=10_000, description="A second judge, to compare with the first.")
        ] = None,
    ) -> dict[str, Any]:
        """Ask a judge, or two, about pairs: each verdict, agreement with labels, position and length bias."""
        for text in (judge, against or ""):
            self.fence.check(text)
        rows = "".join(json.dumps(pair) + "\n" for pair in pairs)
        if len(rows) > bounds.CONFIG:
            raise UserError(f"the pairs have {len(rows)} characters; at most {bounds.CONFIG} are taken.")
        return judge_pairs(judge, against, rows, None)

    def _labels(self, run: str) -> LabelQueue:
        queue = LabelQueue(self.library.path(run))
        if not queue.folder.is_dir():
            raise UserError(f"'{run}' asks for no labels: its judge is not 'web', or it has not asked yet.")
        return queue

    def _said(
        self, command: Sequence[str], config: str, overrides: Sequence[str], seconds: float
    ) -> tuple[Any, list[str]]:
        """What a command on the configuration prints as JSON; None, and its errors, where it fails."""
        self.fence.check(config, overrides)
        with as_file(config) as file:
            changes = [f"--set={override}" for override in overrides]
            done = run_command([*command, str(file), "--json", *changes], seconds, command[0])
            said = done.stderr.replace(str(file), "config.yaml")
        if done.returncode == 0:
            return json.loads(done.stdout), []
        errors = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
        return None, errors or said.splitlines()[-5:]
