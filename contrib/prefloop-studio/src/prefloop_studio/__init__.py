"""prefloop in the browser: `prefloop studio`.

The server keeps nothing of a run: every page is made from the run's folder and a cursor into its files, and
training is a process of its own. So either may end, and the other goes on.
"""

from __future__ import annotations

from prefloop import Command, hookimpl


@hookimpl
def prefloop_commands() -> dict[str, Command]:
    return {
        "studio": Command("prefloop_studio.command:studio", "Train, watch, label and talk in the browser."),
        "queue": Command("prefloop_studio.queue_command:queue", "Start runs in the background, one by one."),
        "label": Command("prefloop_studio.label_command:label", "Answer the pairs that a run waits for."),
    }


@hookimpl
def prefloop_judges() -> dict[str, str]:
    return {"web": "prefloop_studio.judge:WebJudge"}
