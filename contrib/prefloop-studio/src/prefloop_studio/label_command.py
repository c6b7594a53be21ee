"""`prefloop label`: the queue of a run that waits for labels, in the terminal."""

from __future__ import annotations

import getpass
import time
from pathlib import Path

import click

from prefloop import StopRun, UserError, open_run
from prefloop.cli.common import PathOnDisk
from prefloop_studio.labels import TAKEN_BACK, Answer, LabelQueue


@click.command()
@click.argument("run", type=PathOnDisk())
@click.option("--wait/--no-wait", default=True, help="Wait for more pairs when none is left.")
def label(run: Path, wait: bool) -> None:
    """Answer the pairs that RUN, whose judge is `web`, waits for; the same queue as in the browser."""
    from prefloop_plugins.judges.human import HumanJudge

    open_run(run)
    queue = LabelQueue(run)
    if not queue.folder.is_dir():
        raise UserError(f"'{run}' has no queue of pairs: its judge is not 'web', or it has not asked yet.")
    judge = HumanJudge(undo_seconds=0)
    judge.prepare()
    who = f"{getpass.getuser()} at a terminal"
    given = 0
    try:
        while True:
            question = queue.lease(who)
            if question is None:
                if not wait or open_run(run).status != "running":
                    break
                click.echo("Waiting for the next pairs. Ctrl-C ends this; the run waits on.")
                while not queue.open() and open_run(run).status == "running":
                    time.sleep(0.5)
                continue
            for _, verdict in judge.answers([question.pair]):
                reason, probability = verdict.reason, verdict.probability
                about = Answer(question.id, verdict.status, probability, reason, who, time.time())
                given += verdict.status != TAKEN_BACK and queue.answer(about)
    except (StopRun, KeyboardInterrupt):
        pass
    click.echo(f"\n{given} answers given; {len(queue.open())} pairs wait.")
