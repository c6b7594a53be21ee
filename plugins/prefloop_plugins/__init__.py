"""The bundled plugins. They enter through the same entry-point group as everybody else's."""

from __future__ import annotations

from prefloop.hooks import Components, hookimpl


@hookimpl
def prefloop_samplers() -> Components:
    return {
        "policy": "prefloop_plugins.samplers:PolicySampler",
        "policy-reference": "prefloop_plugins.samplers:PolicyReferenceSampler",
    }


@hookimpl
def prefloop_judges() -> Components:
    return {
        "llm": "prefloop_plugins.llm_judge:LlmJudge",
        "human": "prefloop_plugins.human_judge:HumanJudge",
        "function": "prefloop_plugins.function_judge:FunctionJudge",
        "rule": "prefloop_plugins.rule_judge:RuleJudge",
        "reward": "prefloop_plugins.reward_judge:RewardJudge",
        "committee": "prefloop_plugins.committee_judge:CommitteeJudge",
        "cascade": "prefloop_plugins.cascade_judge:CascadeJudge",
    }


@hookimpl
def prefloop_losses() -> Components:
    return {
        "sigmoid": "prefloop_plugins.losses:Sigmoid",
        "hinge": "prefloop_plugins.losses:Hinge",
        "ipo": "prefloop_plugins.losses:Ipo",
        "dpop": "prefloop_plugins.losses:Dpop",
    }


@hookimpl
def prefloop_bonuses() -> Components:
    return {
        "kl": "prefloop_plugins.bonuses:Kl",
        "optimism": "prefloop_plugins.bonuses:Optimism",
    }


@hookimpl
def prefloop_algorithms() -> Components:
    return {
        "online_dpo": "prefloop_plugins.algorithms:OnlineDpo",
        "xpo": "prefloop_plugins.algorithms:Xpo",
        "xpo_paper": "prefloop_plugins.algorithms:XpoPaper",
    }


@hookimpl
def prefloop_observers() -> Components:
    return {"progress": "prefloop_plugins.progress:ProgressObserver"}
