"""Registers two judges with prefloop: length control for any other judge, and a judge of length alone."""

from prefloop import hookimpl


@hookimpl
def prefloop_judges() -> dict[str, str]:
    return {
        "length-controlled": "prefloop_judge_length.controlled:LengthControlled",
        "near-length": "prefloop_judge_length.near:NearLength",
    }
