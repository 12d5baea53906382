"""Budgets: which of quick, standard and paper fits this device, found by timing a few steps, said in plain words."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nasproxy.baselines import spending_of
from nasproxy.condense.estimate import estimate
from nasproxy.condense.trajectory_matching import updates_followed
from nasproxy.config import (
    BUDGET_SETTINGS,
    BUDGETS,
    FULL_RECIPE,
    METHOD_SETTINGS,
    OUTER_STEPS,
    READS,
    SELECTIONS,
    TIME_LIMIT_SECONDS,
    CondenseConfig,
    Recipe,
    SearchConfig,
    ValidateConfig,
    condense_config,
    loops_for_ipc,
)
from nasproxy.datasets import Dataset
from nasproxy.errors import unknown
from nasproxy.evaluations import TrainingTask
from nasproxy.networks import seeded
from nasproxy.objective import parse_rungs, parse_terms
from nasproxy.proxyset import ProxySet
from nasproxy.scores import SCORES, score_names
from nasproxy.spaces import SearchSpace, SpaceInspection
from nasproxy.train import TrainingImages, fit
from nasproxy.zero_cost import MINIBATCH, ZERO_COST

# From the most faithful to the cheapest.
ORDER = ("paper", "standard", "quick")

# How far "quick" may be cut to fit the time limit; below, a search says nothing.
SMALLEST = {"search.trials": 10, "search.epochs": 30, "validate.sample": 10, "validate.images": 1_000}
CUT = 0.9  # at a time


@dataclass(frozen=True)
class BuildPlan:
    """Settings for a build, the budget's name, the seconds it should take, and what to tell the person first."""

    config: CondenseConfig
    budget: str
    seconds: float
    why: str
    leaves_out: str


@dataclass(frozen=True)
class SearchPlan:
    """As :class:`BuildPlan`, for search and validation."""

    search: SearchConfig
    validate: ValidateConfig
    budget: str
    seconds: float
    why: str
    leaves_out: str


def duration(seconds: float) -> str:
    """Seconds for people: ``45 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def time_limit(device: torch.device) -> float:
    """What a command may take before a smaller budget is chosen, in seconds."""
    return TIME_LIMIT_SECONDS[device.type]


def _names(budget: str | None) -> tuple[str, ...]:
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
    for name in _names(budget):
        config = budget_config(name, overrides, dataset)
        timing = estimate(dataset, config, device)
        seconds = timing.seconds
        config = replace(config, threads=timing.threads, compile=timing.compile, precision=timing.precision)
        if budget is not None:
            return BuildPlan(config, name, seconds, "asked for", omissions(config))
        if seconds <= limit:
            break
        if name != ORDER[-1]:
            slower = f"{name} would take about {duration(seconds)} here"
    why = f"{slower}, more than the {duration(limit)} aimed at" if slower else "fits the time aimed at"
    if seconds > limit and "outer_steps" not in overrides:
        fitting = max(1, int(config.outer_steps * limit / seconds))
        seconds *= fitting / config.outer_steps
        config = replace(config, outer_steps=fitting)
        why += f"; cut to {fitting} nets to fit"
    return BuildPlan(config, name, seconds, why, omissions(config))


NUM_TIMED = 5


def _seconds_per_image(
    space: SearchSpace,
    inspection: SpaceInspection,
    dataset: Dataset,
    batch: int,
    device: torch.device,
    precision: str,
) -> float:
    """Mean seconds per training image over the space, from ``NUM_TIMED`` candidates across its range of FLOPs."""
    pool = sorted(inspection.valid, key=lambda candidate: inspection.counts(candidate).flops)
    labels = torch.arange(batch) % dataset.num_classes
    data = TrainingImages(torch.zeros((batch, *dataset.input_shape), device=device), labels.to(device))
    flops, seconds = [], []
    for place in np.linspace(0.05, 0.95, NUM_TIMED) * (len(pool) - 1):
        candidate = pool[round(place)]
        build = partial(space.build, candidate.params, dataset.input_shape, dataset.num_classes)
        net = seeded(build, 0).to(device)
        elapsed = 0.0
        for epochs in (1, 2):  # the first warms up
            start = time.perf_counter()
            recipe = Recipe(lr=1e-3, epochs=epochs, batch_size=batch)
            fit(net, data, recipe, seed=0, device=device, precision=precision).item()
            elapsed = (time.perf_counter() - start) / epochs
        flops.append(inspection.counts(candidate).flops)
        seconds.append(elapsed / batch)
    per_candidate = np.interp([inspection.counts(candidate).flops for candidate in pool], flops, seconds)
    return float(per_candidate.mean())


# A forward pass costs about a third of a training step on the same images.
FORWARD_SHARE = 1 / 3
# A score that needs no training, in training steps on its minibatch; the dearest, latency and zen, take about four.
ZERO_COST_STEPS = 4


def plan_search(
    space: SearchSpace,
    inspection: SpaceInspection,
    dataset: Dataset,
    task: TrainingTask,
    search_overrides: dict[str, Any],
    validate_overrides: dict[str, Any],
    *,
    budget: str | None,
    validation: bool,
    truth: bool,
    device: torch.device,
    proxy: ProxySet | None = None,
) -> SearchPlan:
    """The largest budget whose search (and validation, unless switched off) fits the time limit, or the one asked for.

    Seconds are predicted from timed training steps of five candidates across the space's range of FLOPs. When even
    "quick" is too slow here, what the person left open is cut, down to ``SMALLEST``. ``proxy`` says what rivals at
    equal total cost may spend.
    """
    limit = time_limit(device)
    small = _seconds_per_image(space, inspection, dataset, len(task.train.images), device, task.precision)
    batch = min(FULL_RECIPE.batch_size, len(dataset.train))
    precision = validate_overrides.get("precision", ValidateConfig.precision)
    large = _seconds_per_image(space, inspection, dataset, batch, device, precision)
    evaluation = len(dataset.val) * large * FORWARD_SHARE

    num_images = len(task.train.images)

    def proxy_seconds(search: SearchConfig, *, epochs: int | None = None, share: float = 1.0) -> float:
        epochs = epochs or search.epochs or task.recipe.epochs
        return search.seeds * (epochs * share * num_images * small + evaluation)

    def score_seconds(search: SearchConfig, name: str, full_images: float | None = None) -> float:
        if name in ZERO_COST:
            return search.seeds * ZERO_COST_STEPS * MINIBATCH * small
        times = 1.0
        if SCORES[name].total and proxy is not None:
            own = replace(task, recipe=replace(task.recipe, epochs=search.epochs or task.recipe.epochs))
            spending = spending_of(proxy, dataset, own, inspection, search)
            times = 1.0 if spending is None else spending.times()
            seen = own.recipe.epochs * num_images
            if spending is not None and full_images is not None and spending.buys_full_training(seen, full_images):
                times = 0.0  # it is left out
        return times * proxy_seconds(search)

    def candidate_seconds(search: SearchConfig) -> float:
        """Of the search's objective, on average over candidates that rungs end and others."""
        total, left = 0.0, 1.0
        for kind, number in parse_rungs(search.rungs):
            if kind == "epochs":
                cost = proxy_seconds(search, epochs=number)
            elif kind == "ipc":
                cost = proxy_seconds(search, share=min(1.0, number * dataset.num_classes / num_images))
            else:
                cost = score_seconds(search, kind)
            total += left * cost
            left /= search.reduction
        names = [name for _, name in parse_terms(search.score)] + list(score_names(search.against))
        return total + left * sum(score_seconds(search, name) for name in names)

    def validation_seconds(search: SearchConfig, config: ValidateConfig) -> float:
        if not validation:
            return 0.0
        images = min(config.images or len(dataset.train), len(dataset.train))
        full = 0.0 if truth else config.seeds * (config.epochs * images * large + evaluation)
        # The sample is trained on the proxy and on random images, too; the pick once more for the test accuracy.
        fully = None if truth else float(config.epochs * images)
        more = sum(score_seconds(search, name, fully) for name in score_names(config.scores))
        return (config.sample + config.top + 1) * full + config.sample * (2 * proxy_seconds(search) + more)

    def total_seconds(search: SearchConfig, config: ValidateConfig) -> float:
        return search.trials * candidate_seconds(search) + validation_seconds(search, config)

    slower = ""
    for name in _names(budget):
        values = BUDGETS[name]
        epochs = None if task.recipe.learned else values.proxy_epochs
        search = SearchConfig(**({"trials": values.trials, "epochs": epochs} | search_overrides))
        if inspection.num_valid is not None:
            search = replace(search, trials=min(search.trials, max(1, inspection.num_valid)))
        config = ValidateConfig(
            **(
                {
                    "sample": values.sample,
                    "top": values.top,
                    "epochs": values.full_epochs,
                    "images": values.full_images,
                }
                | validate_overrides
            )
        )
        seconds = total_seconds(search, config)
        if budget is not None or seconds <= limit:
            break
        if name != ORDER[-1]:
            slower = f"{name} would take about {duration(seconds)} here"
    if budget is not None:
        why = "asked for"
    else:
        why = f"{slower}, more than the {duration(limit)} aimed at" if slower else "fits the time aimed at"
        fixed = {f"search.{key}" for key in search_overrides} | {f"validate.{key}" for key in validate_overrides}
        cut = False
        while seconds > limit:
            smaller = _cut(search, config, fixed)
            if smaller == (search, config):
                break
            (search, config), cut = smaller, True
            seconds = total_seconds(search, config)
        if cut:
            why += f"; {name} would take longer, too, and was cut to fit"
    return SearchPlan(
        search,
        config,
        name,
        seconds,
        why,
        search_omissions(search, config, inspection, dataset, full_training=validation and not truth),
    )


def _cut(search: SearchConfig, config: ValidateConfig, fixed: set[str]) -> tuple[SearchConfig, ValidateConfig]:
    """Both settings a tenth smaller in everything that may be cut; unchanged when nothing is left to cut."""
    values = {
        "search.trials": search.trials,
        "search.epochs": search.epochs,
        "validate.sample": config.sample,
        "validate.images": config.images,
    }
    for key, value in values.items():
        if key not in fixed and value is not None and value > SMALLEST[key]:
            values[key] = max(SMALLEST[key], int(CUT * value))
    return (
        replace(search, trials=values["search.trials"] or 1, epochs=values["search.epochs"]),
        replace(config, sample=values["validate.sample"] or 0, images=values["validate.images"]),
    )


def search_omissions(
    search: SearchConfig, config: ValidateConfig, inspection: SpaceInspection, dataset: Dataset, *, full_training: bool
) -> str:
    """How a search, and its ``full_training`` when there is any, fall short of the published protocol, in words."""
    paper = BUDGETS["paper"]
    parts = []
    whole = inspection.num_valid if inspection.num_valid is not None else inspection.space.size()
    if whole is None or search.trials < whole:
        parts.append(f"{search.trials} of {'countless' if whole is None else f'{whole:,}'} candidates are searched")
    if (search.epochs or paper.proxy_epochs) < paper.proxy_epochs:
        parts.append(f"{search.epochs} instead of {paper.proxy_epochs} epochs on the proxy")
    if full_training and config.epochs < paper.full_epochs:
        parts.append(f"{config.epochs} instead of {paper.full_epochs} epochs of full training")
    if full_training and config.images is not None and config.images < len(dataset.train):
        parts.append(f"{config.images:,} of {len(dataset.train):,} training images in it")
    return ", ".join(parts)
