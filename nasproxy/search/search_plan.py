"""The budget of a search: which of paper, standard and quick fits this device, found by timing a few trainings."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nasproxy.condense.build_plan import ORDER, budget_names, time_limit
from nasproxy.config import BUDGETS, FULL_RECIPE, Recipe, SearchConfig, ValidateConfig
from nasproxy.core.wording import rough_duration
from nasproxy.data import Dataset
from nasproxy.data.proxy_set import ProxySet
from nasproxy.networks import seeded
from nasproxy.scores.registry import SCORES, score_names
from nasproxy.scores.spending import spending_of
from nasproxy.scores.zero_cost import MINIBATCH, ZERO_COST
from nasproxy.search.objective import parse_rungs, parse_terms
from nasproxy.spaces import SearchSpace, SpaceInspection
from nasproxy.training.fit import Passes, fit
from nasproxy.training.images import TrainingImages
from nasproxy.training.tasks import TrainingTask

# How far "quick" may be cut to fit the time limit; below, a search says nothing.
SMALLEST = {"search.trials": 10, "search.epochs": 30, "validate.sample": 10, "validate.images": 1_000}
CUT = 0.9  # at a time


@dataclass(frozen=True)
class SearchPlan:
    """As :class:`BuildPlan`, for search and validation."""

    search: SearchConfig
    validate: ValidateConfig
    budget: str
    seconds: float
    why: str
    leaves_out: str


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
            fit(net, data, recipe, seed=0, device=device, passes=Passes(precision=precision)).item()
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
    for name in budget_names(budget):
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
            slower = f"{name} would take about {rough_duration(seconds)} here"
    if budget is not None:
        why = "asked for"
    else:
        why = f"{slower}, more than the {rough_duration(limit)} aimed at" if slower else "fits the time aimed at"
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
