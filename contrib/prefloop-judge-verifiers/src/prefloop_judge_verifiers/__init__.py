"""Registers the `verifiers` judge with prefloop. It is named, not imported, so that listing stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_judges() -> dict[str, str]:
    return {"verifiers": "prefloop_judge_verifiers.judge:VerifiersJudge"}
