"""What the package offers: a judge, an observer and two commands. Importing it imports none of them."""

from __future__ import annotations

from collections.abc import Mapping

from prefloop import Command, hookimpl


@hookimpl
def prefloop_judges() -> Mapping[str, type | str]:
    return {"tally": "acme_tally.judge:Tally"}


@hookimpl
def prefloop_observers() -> Mapping[str, type | str]:
    return {"scoreboard": "acme_tally.observer:Scoreboard"}


@hookimpl
def prefloop_commands() -> Mapping[str, Command]:
    return {
        "tally": Command("acme_tally.commands:tally", "Count the verdicts of a run."),
        "runs newest": Command("acme_tally.commands:newest", "Name the newest run of a folder."),
    }
