"""Registers the `openai` judge with prefloop. It is named, not imported, so that listing stays fast."""

from prefloop import hookimpl


@hookimpl
def prefloop_judges() -> dict[str, str]:
    return {"openai": "prefloop_judge_openai.judge:OpenAiJudge"}
