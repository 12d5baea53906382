"""The budget of a build: which of paper, standard and quick fits this device, found by timing a few steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from nasproxy.condense.methods.trajectory_matching import updates_followed
from nasproxy.condense.timing import estimate
from nasproxy.config import (
    BUDGET_SETTINGS,
    BUDGETS,
    METHOD_SETTINGS,
    OUTER_STEPS,
    READS,
    SELECTIONS,
    TIME_LIMIT_SECONDS,
    CondenseConfig,
    condense_config,
    loops_for_ipc,
)
from nasproxy.core.errors import unknown
from nasproxy.core.wording import rough_duration
from nasproxy.data import Dataset

# From the most faithful to the cheapest.
ORDER = ("paper", "standard", "quick")


@dataclass(frozen=True)
class BuildPlan:
    """Settings for a build, the budget's name, the seconds it should take, and what to tell the person first."""

    config: CondenseConfig
    budget: str
    seconds: float
    why: str
    leaves_out: str


def time_limit(device: torch.device) -> float:
    """What a command may take before a smaller budget is chosen, in seconds."""
    return TIME_LIMIT_SECONDS[device.type]


def budget_names(budget: str | None) -> tuple[str, ...]:
    if budget is None:
        return ORDER
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    return (budget,)


def budget_config(name: str, overrides: dict[str, Any], dataset: Dataset) -> CondenseConfig:
    """The settings of budget ``name`` for ``dataset``, with the person's own values in their place."""
    budget, method = BUDGETS[name], overrides.get("method", CondenseConfig.method)
    own = METHOD_SETTINGS.get(method, {}).get("outer_steps", budget.outer_steps)
    values: dict[str, Any] = {
        "init": budget.init,
        "outer_steps": OUTER_STEPS.get(method, {}).get(name, own if name == ORDER[0] else budget.outer_steps),
        "width": budget.width,
        "batch_real": budget.batch_real,
    } | BUDGET_SETTINGS.get(method, {}).get(name, {})
    if name == ORDER[0]:  # a method's paper has a start and a batch of its own
        paper = METHOD_SETTINGS.get(method, {})
        values |= {key: paper[key] for key in ("init", "batch_real") if key in paper}
    values = {key: value for key, value in values.items() if key in READS[method]}
    config = condense_config(**(values | overrides)).for_data(dataset.input_shape, flip=dataset.flip)
    if budget.net_steps is not None and "net_steps" not in overrides and "net_steps" in READS[method]:
        config = replace(config, net_steps=min(budget.net_steps, loops_for_ipc(config.ipc)[1]))
    if method == "trajectory_matching" and "unroll_steps" not in overrides:
        config = replace(config, unroll_steps=min(config.unroll_steps, updates_followed(dataset, config)))
    return config


def omissions(config: CondenseConfig) -> str:
    """How ``config`` falls short of the published protocol, in words; empty when it does not."""
    published = condense_config(method=config.method, ipc=config.ipc)
    names = {
        "outer_steps": "fresh nets" if "net_steps" in READS[config.method] else "steps",
        "inner_steps": "matchings per net",
        "net_steps": "net epochs per matching",
        "width": "channels of the net",
        "batch_real": "real images per class",
        "num_experts": "nets trained on the real data",
        "start_epochs": "epochs after which they are followed",
        "unroll_steps": "steps towards them",
        "lr_img": "as the images' learning rate",
    }
    ours, theirs = config.as_json(), published.as_json()
    names = {name: words for name, words in names.items() if name in READS[config.method]}
    started = (
        ["real images instead of noise to start from"] if (config.init, published.init) == ("real", "noise") else []
    )
    if ours["precision"] != theirs["precision"]:
        started.append(f"{ours['precision']} instead of {theirs['precision']} in first-order passes")
    parts = [
        f"{ours[name]} instead of {theirs[name]} {text}" for name, text in names.items() if ours[name] != theirs[name]
    ]
    return ", ".join(parts + started)


def plan_build(dataset: Dataset, overrides: dict[str, Any], *, budget: str | None, device: torch.device) -> BuildPlan:
    """The largest budget that fits the time limit, or the one asked for.

    ``overrides`` are settings of :class:`CondenseConfig` that the person gave; they hold in every budget. When even
    "quick" is too slow here and the number of nets was left open, fewer nets are used.
    """
    if overrides.get("method") in SELECTIONS:
        config = condense_config(**({"width": BUDGETS[ORDER[-1]].width} | overrides))
        return BuildPlan(config, "none", 0.0, "real images are chosen, not learned", "")
    limit = time_limit(device)
    slower = ""
    for name in budget_names(budget):
        config = budget_config(name, overrides, dataset)
        timing = estimate(dataset, config, device)
        seconds = timing.seconds
        config = replace(config, threads=timing.threads, compile=timing.compile, precision=timing.precision)
        if budget is not None:
            return BuildPlan(config, name, seconds, "asked for", omissions(config))
        if seconds <= limit:
            break
        if name != ORDER[-1]:
            slower = f"{name} would take about {rough_duration(seconds)} here"
    why = f"{slower}, more than the {rough_duration(limit)} aimed at" if slower else "fits the time aimed at"
    if seconds > limit and "outer_steps" not in overrides:
        fitting = max(1, int(config.outer_steps * limit / seconds))
        seconds *= fitting / config.outer_steps
        config = replace(config, outer_steps=fitting)
        why += f"; cut to {fitting} nets to fit"
    return BuildPlan(config, name, seconds, why, omissions(config))
