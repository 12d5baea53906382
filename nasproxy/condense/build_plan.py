"""The budget of a build: which of paper, standard and quick fits this device, found by timing a few steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from nasproxy.condense.contract import BuildRun
from nasproxy.condense.cost import condensing_flops
from nasproxy.condense.methods import CONDENSERS
from nasproxy.condense.timing import Estimate, fewest_threads, pace
from nasproxy.config import BUDGETS, METHODS, TIME_LIMIT_SECONDS, CondenseConfig, condense_config, loops_for_ipc
from nasproxy.core.errors import unknown
from nasproxy.core.wording import rough_duration
from nasproxy.data import Dataset

# From the most faithful to the cheapest.
ORDER = ("paper", "standard", "quick")
MOST_GAIN = 4.0  # FLOPs in a second by the nets of a larger budget, against those of the smallest; 2.6 was measured


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


def budget_config(name: str, options: Mapping[str, Any], dataset: Dataset) -> CondenseConfig:
    """The resolved settings of budget ``name`` for ``dataset``; ``options`` that a person gave replace them.

    Raises:
        NasproxyError: for settings that are out of range or do not fit the data.
    """
    budget, method = BUDGETS[name], options.get("method", CondenseConfig.method)
    spec, condenser = METHODS[method], CONDENSERS[method]
    values = {key: getattr(budget, key) for key in ("init", "outer_steps", "width", "batch_real")}
    values = {key: value for key, value in (values | dict(spec.in_budget(name))).items() if key in spec.reads}
    config = condense_config(**(values | dict(options)))
    if budget.net_steps is not None and "net_steps" not in options and "net_steps" in spec.reads:
        config = replace(config, net_steps=min(budget.net_steps, loops_for_ipc(config.ipc)[1]))
    if condenser.fitted is not None:
        fitted = condenser.fitted(dataset, config)
        config = replace(config, **{key: value for key, value in fitted.items() if key not in options})
    return config.resolved(dataset.input_shape, flip=dataset.flip)


def omissions(config: CondenseConfig) -> str:
    """How ``config`` falls short of the published protocol, in words; empty when it does not."""
    published = condense_config(method=config.method, ipc=config.ipc)
    names = {
        "outer_steps": "fresh nets" if "net_steps" in METHODS[config.method].reads else "steps",
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
    names = {name: words for name, words in names.items() if name in METHODS[config.method].reads}
    started = (
        ["real images instead of noise to start from"] if (config.init, published.init) == ("real", "noise") else []
    )
    if ours["precision"] != theirs["precision"]:
        started.append(f"{ours['precision']} instead of {theirs['precision']} in first-order passes")
    parts = [
        f"{ours[name]} instead of {theirs[name]} {text}" for name, text in names.items() if ours[name] != theirs[name]
    ]
    return ", ".join(parts + started)


def estimate(dataset: Dataset, config: CondenseConfig, device: torch.device) -> Estimate:
    """How long a build by ``config`` takes on ``device``, and how it runs fastest where ``config`` leaves that open."""
    config = config.resolved(dataset.input_shape, flip=dataset.flip)
    condenser = CONDENSERS[config.method]
    if condenser.estimate is not None:
        return condenser.estimate(dataset, config, device)

    def seconds(threads: int | None) -> float:
        own = replace(config, threads=threads)
        return config.num_sets * pace(
            lambda progress: condenser.make(dataset, own, BuildRun(device, progress=progress))
        )

    if device.type != "cpu" or config.threads is not None:
        return Estimate(seconds(config.threads), config.threads)
    return fewest_threads(seconds)


def plan_build(dataset: Dataset, options: Mapping[str, Any], *, budget: str | None, device: torch.device) -> BuildPlan:
    """The largest budget that fits the time limit, or the one asked for.

    When even "quick" is too slow here and the number of nets was left open, fewer nets are used. On a CPU the smallest
    budget is timed first. A larger one that takes too long, even if it computes ``MOST_GAIN`` times as fast, is
    not timed.

    Args:
        options: settings of :class:`CondenseConfig` that a person gave; they hold in every budget.
        budget: the name of a budget; None: the largest one that fits.

    Returns:
        The plan; its settings are resolved: nothing in them is left open.

    Raises:
        NasproxyError: for an unknown budget, and for settings that are out of range or do not fit the data.
    """
    if not METHODS[options.get("method", CondenseConfig.method)].learns:
        config = condense_config(**({"width": BUDGETS[ORDER[-1]].width} | dict(options)))
        config = config.resolved(dataset.input_shape, flip=dataset.flip)
        return BuildPlan(config, "none", 0.0, "real images are chosen, not learned", "")
    limit = time_limit(device)
    slower, names = "", budget_names(budget)
    timed: dict[str, Estimate] = {}
    if len(names) > 1 and device.type == "cpu":
        config = budget_config(names[-1], options, dataset)
        timed[names[-1]] = estimate(dataset, config, device)
        fastest = MOST_GAIN * condensing_flops(dataset, config) / max(timed[names[-1]].seconds, 1e-9)
    for name in names:
        config = budget_config(name, options, dataset)
        if timed and name not in timed and (least := condensing_flops(dataset, config) / fastest) > limit:
            slower = f"{name} would take more than {rough_duration(least)} here"
            continue
        timing = timed.get(name) or estimate(dataset, config, device)
        seconds = timing.seconds
        config = replace(config, threads=timing.threads, compile=timing.compile, precision=timing.precision)
        if budget is not None:
            return BuildPlan(config, name, seconds, "asked for", omissions(config))
        if seconds <= limit:
            break
        if name != ORDER[-1]:
            slower = f"{name} would take about {rough_duration(seconds)} here"
    why = f"{slower}, more than the {rough_duration(limit)} aimed at" if slower else "fits the time aimed at"
    if seconds > limit and "outer_steps" not in options:
        fitting = max(1, int(config.outer_steps * limit / seconds))
        seconds *= fitting / config.outer_steps
        config = replace(config, outer_steps=fitting)
        why += f"; cut to {fitting} nets to fit"
    return BuildPlan(config, name, seconds, why, omissions(config))
