"""The bundled plugins. They enter through the same entry-point group as everybody else's."""

from __future__ import annotations

from prefloop.hooks import Command, Commands, Components, hookimpl


@hookimpl
def prefloop_samplers() -> Components:
    return {
        "policy": "prefloop_plugins.samplers:PolicySampler",
        "policy-reference": "prefloop_plugins.samplers:PolicyReferenceSampler",
        "dataset": "prefloop_plugins.samplers:DatasetSampler",
    }


@hookimpl
def prefloop_judges() -> Components:
    return {
        "llm": "prefloop_plugins.judges.llm:LlmJudge",
        "human": "prefloop_plugins.judges.human:HumanJudge",
        "label": "prefloop_plugins.judges.label:LabelJudge",
        "function": "prefloop_plugins.judges.function:FunctionJudge",
        "rule": "prefloop_plugins.judges.rule:RuleJudge",
        "reward": "prefloop_plugins.judges.reward:RewardJudge",
        "committee": "prefloop_plugins.judges.committee:CommitteeJudge",
        "cascade": "prefloop_plugins.judges.cascade:CascadeJudge",
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
        "offline_dpo": "prefloop_plugins.algorithms:OfflineDpo",
    }


@hookimpl
def prefloop_observers() -> Components:
    return {
        "progress": "prefloop_plugins.progress:ProgressObserver",
        "report": "prefloop_plugins.report:ReportObserver",
    }


@hookimpl
def prefloop_commands() -> Commands:
    commands = "prefloop_plugins.commands"
    return {
        "judge": Command(f"{commands}.judge:judge", "Try a judge on pairs, without training."),
        "eval": Command(f"{commands}.eval:evaluate", "Compare the policy of a run with another model."),
        "prompts": Command(f"{commands}.prompts:prompts", "Show the prompts that a run would read."),
        "plan": Command(f"{commands}.plan:plan", "Work out what several machines would bring a run."),
        "report": Command(
            f"{commands}.report:report", "Write a page about a run, or one that compares several."
        ),
        "export": Command(f"{commands}.export:export", "Write what a run has made for other tools."),
        "runs compare": Command(
            f"{commands}.compare:compare", "Compare the runs of a queue, or any others, over their seeds."
        ),
        "config init": Command(
            f"{commands}.init:init", "Write a configuration in which every option is explained."
        ),
        "config convert": Command(
            f"{commands}.convert:convert", "Convert a configuration of mlx-lm-lora, MLX LoRA Studio or TRL."
        ),
        "plugins check": Command(
            f"{commands}.check:check_plugins", "Run the conformance checks on what is installed."
        ),
        "plugins install": Command(f"{commands}.install:install", "Install a package of plugins."),
        "plugins uninstall": Command(f"{commands}.install:uninstall", "Remove a package of plugins."),
        "plugins new": Command(f"{commands}.new:new_plugin", "Write a package to begin a plugin with."),
    }
