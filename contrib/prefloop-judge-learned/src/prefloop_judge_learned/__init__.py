"""Registers the `learned` judge with prefloop: it learns from a person's labels which answer they prefer."""

from prefloop import hookimpl


@hookimpl
def prefloop_judges() -> dict[str, str]:
    return {"learned": "prefloop_judge_learned.judge:LearnedJudge"}
