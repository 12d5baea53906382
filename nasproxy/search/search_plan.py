"""The plan of a search: which budget fits this device, found by timing trainings of a few candidates."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from nasproxy.condense.build_plan import ORDER, budget_names, time_limit
from nasproxy.config import BUDGETS, FULL_RECIPE, Recipe, SearchConfig, ValidateConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import epochs_text, rough_duration
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import ProxySet
from nasproxy.networks import seeded
from nasproxy.scores.full_training import full_recipe
from nasproxy.scores.registry import SCORES, score_names
from nasproxy.scores.spending import spending_of
from nasproxy.scores.zero_cost import MINIBATCH, ZERO_COST
from nasproxy.search.objective import parse_rungs, parse_terms
from nasproxy.spaces import SpaceInspection
from nasproxy.spaces.user_network import describe_error
from nasproxy.training.fit import Passes, fit
from nasproxy.training.images import TrainingImages, real_images
from nasproxy.training.tasks import TrainingTask

# How far "quick" may be cut to fit the time limit; with less, a search says nothing.
SMALLEST = {
    "search.trials": 10,
    "search.epochs": 30,
    "validate.sample": 10,
    "validate.images": 1_000,
    "validate.long_sample": 5,
}
CUT = 0.9  # each step of cutting keeps so much

# Full training is made longer while the plan fits the time limit: epochs, and training images (None: all of them).
# Few epochs rank what learns fast (benchmarks/RESULTS.md).
LENGTHS: tuple[tuple[int, int | None], ...] = (
    (4, 5_000),
    (10, 5_000),
    (10, 10_000),
    (10, 20_000),
    (10, None),
    (30, None),
    (100, None),
)

NUM_TIMED = 5  # candidates
# A forward pass costs about a third of a training step on the same images.
FORWARD_SHARE = 1 / 3
# A score that needs no training, in training steps on its minibatch; the most expensive, latency and zen, take four.
ZERO_COST_STEPS = 4


@dataclass(frozen=True)
class SearchPlan:
    """The settings of a search and its validation.

    Args:
        search: settings of the search.
        validate: settings of the validation.
        budget: the name of the budget.
        seconds: that both will take.
        why: the reason for this budget, in words.
        leaves_out: what is less than the paper's protocol, in words.
    """

    search: SearchConfig
    validate: ValidateConfig
    budget: str
    seconds: float
    why: str
    leaves_out: str


@dataclass(frozen=True)
class PlannedSearch:
    """What is planned: a search of candidates on a proxy set, and how it is validated.

    Args:
        task: the score "proxy" of the search.
        proxy: tells what baselines at equal total cost may spend; None: they count as ordinary ones.
        validation: whether a validation follows.
        truth: whether its truth comes from a table.
    """

    inspection: SpaceInspection
    dataset: Dataset
    task: TrainingTask
    device: torch.device
    proxy: ProxySet | None = None
    validation: bool = True
    truth: bool = False


@dataclass(frozen=True)
class TimePerImage:
    """Seconds per training image, measured of a few candidates across the space's range of FLOPs.

    Args:
        flops: of these candidates, increasing.
        seconds: of the same.
    """

    flops: tuple[float, ...]
    seconds: tuple[float, ...]

    def of(self, flops: Sequence[float]) -> np.ndarray:
        """Seconds per training image of nets with these FLOPs, by interpolation, ``(n,)``."""
        return np.asarray(np.interp(flops, self.flops, self.seconds))


TIMED_SECONDS, MOST_TIMED = 0.3, 20  # of a candidate, and updates


def time_per_image(
    inspection: SpaceInspection, data: TrainingImages, recipe: Recipe, device: torch.device, precision: str
) -> TimePerImage:
    """Times ``NUM_TIMED`` candidates of a space, each in updates of the first batch of ``data`` by ``recipe``.

    Normalising and augmenting the images are part of the time: on small images they take as long as a small net.
    """
    batch = slice(recipe.batch_size)
    data = TrainingImages(data.images[batch].to(device), data.labels[batch].to(device), data.prepare)
    shape, classes = inspection.input_shape, inspection.num_classes
    pool = sorted(inspection.valid, key=lambda candidate: inspection.counts(candidate).flops)
    flops, seconds, reason = [], [], ""
    for place in np.linspace(0.05, 1.0, NUM_TIMED) * (len(pool) - 1):
        candidate = pool[round(place)]
        try:
            net = seeded(partial(inspection.space.build, candidate.params, shape, classes), 0).to(device)
            elapsed, updates = 0.0, 1  # the first warms up
            while updates:
                start = time.perf_counter()
                own = replace(recipe, epochs=updates)
                fit(net, data, own, seed=0, device=device, passes=Passes(precision=precision)).item()
                taken = time.perf_counter() - start
                elapsed = taken / updates
                # Quick ones are repeated often, because what begins a training takes longer than an update.
                more = min(MOST_TIMED, max(2, int(TIMED_SECONDS / elapsed)))
                updates = more if updates < more and (updates == 1 or taken < TIMED_SECONDS / 2) else 0
        except (RuntimeError, ValueError) as error:  # of one candidate; a search counts it as failed
            reason = f"{candidate.label}: {describe_error(error)}"
            continue
        flops.append(float(inspection.counts(candidate).flops))
        seconds.append(elapsed / len(data.images))
    if not flops:
        raise NasproxyError(
            f"Candidates must be trainable on a batch of {len(data.images)} images, but none of {NUM_TIMED} is "
            f"({reason}): make the largest ones smaller, or use a device with more memory."
        )
    return TimePerImage(tuple(flops), tuple(seconds))


def full_batch(dataset: Dataset) -> TrainingImages:
    """The images of an update of full training."""
    batch = FULL_RECIPE.batch_size
    return real_images(dataset, LabeledImages(dataset.train.images[:batch], dataset.train.labels[:batch]))


def seconds_per_image(
    inspection: SpaceInspection, data: TrainingImages, recipe: Recipe, device: torch.device, precision: str
) -> float:
    """Mean seconds per training image over the space."""
    timed = time_per_image(inspection, data, recipe, device, precision)
    return float(timed.of([inspection.counts(candidate).flops for candidate in inspection.valid]).mean())


@dataclass(frozen=True)
class CostModel:
    """Predicts seconds of a search and of its validation.

    Args:
        small: seconds per image of training on the proxy set.
        large: seconds per image of full training.
    """

    planned: PlannedSearch
    small: float
    large: float

    @classmethod
    def timed(cls, planned: PlannedSearch, precision: str) -> CostModel:
        """The model of this device, from timing a few candidates; ``precision`` is that of full training."""
        inspection, dataset, task = planned.inspection, planned.dataset, planned.task
        small = seconds_per_image(inspection, task.train, task.recipe, planned.device, task.precision)
        full = full_recipe(dataset, FULL_RECIPE.epochs), planned.device, precision
        return cls(planned, small, seconds_per_image(inspection, full_batch(dataset), *full))

    @property
    def _num_images(self) -> int:
        return len(self.planned.task.train.images)

    @property
    def _evaluation(self) -> float:
        """Seconds of measuring a net on the validation split."""
        return len(self.planned.dataset.val) * self.large * FORWARD_SHARE

    def proxy(self, search: SearchConfig, *, epochs: int | None = None, share: float = 1.0) -> float:
        """Seconds of a candidate on the proxy set, on a ``share`` of its images."""
        epochs = epochs or search.epochs or self.planned.task.recipe.epochs
        return search.seeds * (epochs * share * self._num_images * self.small + self._evaluation)

    def score(self, search: SearchConfig, name: str, full_images: float | None = None) -> float:
        """Seconds of a candidate by the score ``name``; ``full_images``: what full training sees, where it is done."""
        if name in ZERO_COST:
            return search.seeds * ZERO_COST_STEPS * MINIBATCH * self.small
        times, planned = 1.0, self.planned
        if SCORES[name].total and planned.proxy is not None:
            recipe = planned.task.recipe
            own = replace(planned.task, recipe=replace(recipe, epochs=search.epochs or recipe.epochs))
            spending = spending_of(planned.proxy, planned.dataset, own, planned.inspection, search)
            times = 1.0 if spending is None else spending.times()
            seen = own.recipe.epochs * self._num_images
            if spending is not None and full_images is not None and spending.buys_full_training(seen, full_images):
                times = 0.0  # it is left out
        return times * self.proxy(search)

    def candidate(self, search: SearchConfig) -> float:
        """Seconds of a candidate by the objective, on average over candidates that are pruned and others."""
        total, left = 0.0, 1.0
        for kind, number in parse_rungs(search.rungs):
            if kind == "epochs":
                cost = self.proxy(search, epochs=number)
            elif kind == "ipc":
                cost = self.proxy(search, share=min(1.0, number * self.planned.dataset.num_classes / self._num_images))
            else:
                cost = self.score(search, kind)
            total += left * cost
            left /= search.reduction
        names = [name for _, name in parse_terms(search.score)] + list(score_names(search.against))
        return total + left * sum(self.score(search, name) for name in names)

    def validation(self, search: SearchConfig, config: ValidateConfig) -> float:
        """Seconds of the validation. The pick is trained once more, for its test accuracy."""
        if not self.planned.validation:
            return 0.0
        num_train = len(self.planned.dataset.train)
        images = min(config.images or num_train, num_train)
        fully = None if self.planned.truth else float(config.epochs * images)
        full = 0.0 if fully is None else config.seeds * (fully * self.large + self._evaluation)
        longer = config.epochs_of_check() * images * self.large + self._evaluation
        checking = 0.0 if fully is None else config.num_checked(num_train) * longer
        more = sum(self.score(search, name, fully) for name in score_names(config.scores))
        # The sample is trained on the proxy and on random images, too.
        return (config.sample + config.top + 1) * full + config.sample * (2 * self.proxy(search) + more) + checking

    def total(self, search: SearchConfig, config: ValidateConfig) -> float:
        """Seconds of the search and of its validation."""
        return search.trials * self.candidate(search) + self.validation(search, config)


def plan_search(
    planned: PlannedSearch,
    search_options: Mapping[str, Any],
    validate_options: Mapping[str, Any],
    *,
    budget: str | None,
) -> SearchPlan:
    """The largest budget whose search and validation fit the time limit, or the one that was asked for.

    Seconds are predicted from timed training steps of a few candidates. When even "quick" is too slow here, what the
    person left open is cut, down to ``SMALLEST``.

    Args:
        search_options: settings of :class:`SearchConfig` that were given; they hold in every budget.
        validate_options: the same of :class:`ValidateConfig`.
        budget: the name of a budget; None: the largest one that fits.

    Raises:
        NasproxyError: for an unknown budget or settings that are out of range.
    """
    limit = time_limit(planned.device)
    model = CostModel.timed(planned, validate_options.get("precision", ValidateConfig.precision))
    slower = ""
    for name in budget_names(budget):
        search, config = _settings(name, planned, search_options, validate_options)
        seconds = model.total(search, config)
        if budget is not None or seconds <= limit:
            break
        if name != ORDER[-1]:
            slower = f"{name} would take about {rough_duration(seconds)} here"
    if budget is not None:
        why = "asked for"
    else:
        why = f"{slower}, more than the {rough_duration(limit)} aimed at" if slower else "fits the time aimed at"
        fixed = {f"search.{key}" for key in search_options} | {f"validate.{key}" for key in validate_options}
        cut = False
        while seconds > limit:
            smaller = _cut(search, config, fixed)
            if smaller == (search, config):
                break
            (search, config), cut = smaller, True
            seconds = model.total(search, config)
        if cut:
            why += f"; {name} would take longer, too, and was cut to fit"
        else:
            config = _lengthened(model, search, config, fixed, limit)
            seconds = model.total(search, config)
    full_training = planned.validation and not planned.truth
    leaves_out = search_omissions(search, config, planned.inspection, planned.dataset, full_training=full_training)
    return SearchPlan(search, config, name, seconds, why, leaves_out)


def _settings(
    budget: str, planned: PlannedSearch, search_options: Mapping[str, Any], validate_options: Mapping[str, Any]
) -> tuple[SearchConfig, ValidateConfig]:
    """The settings of ``budget``, with what was given in their place; no more trials than there are candidates."""
    values = BUDGETS[budget]
    proxy_epochs = None if planned.task.recipe.learned else values.proxy_epochs
    search = SearchConfig(**({"trials": values.trials, "epochs": proxy_epochs} | dict(search_options)))
    num_valid = planned.inspection.num_valid
    if num_valid is not None:
        search = replace(search, trials=min(search.trials, max(1, num_valid)))
    # A longer training that was asked for bounds full training, which must be shorter.
    epochs = min(values.full_epochs, max(1, (validate_options.get("long_epochs") or values.full_epochs + 1) - 1))
    own: dict[str, Any] = {"sample": values.sample, "top": values.top, "epochs": epochs, "images": values.full_images}
    return search, ValidateConfig(**(own | dict(validate_options)))


def _cut(search: SearchConfig, config: ValidateConfig, fixed: set[str]) -> tuple[SearchConfig, ValidateConfig]:
    """Both settings a tenth smaller in everything that may be cut; unchanged when nothing is left to cut."""
    values = {
        "search.trials": search.trials,
        "search.epochs": search.epochs,
        "validate.sample": config.sample,
        "validate.images": config.images,
        "validate.long_sample": config.long_sample,
    }
    for key, value in values.items():
        if key not in fixed and value is not None and value > SMALLEST[key]:
            values[key] = max(SMALLEST[key], int(CUT * value))
    return (
        replace(search, trials=values["search.trials"] or 1, epochs=values["search.epochs"]),
        replace(
            config,
            sample=values["validate.sample"] or 0,
            images=values["validate.images"],
            long_sample=values["validate.long_sample"] or 0,
        ),
    )


def _lengthened(
    model: CostModel, search: SearchConfig, config: ValidateConfig, fixed: set[str], limit: float
) -> ValidateConfig:
    """``config`` with the longest full training of ``LENGTHS`` that fits ``limit`` seconds.

    Settings in ``fixed`` were given and stay. So do both where the truth comes from a table.
    """
    if model.planned.truth or not model.planned.validation or {"validate.epochs", "validate.images"} & fixed:
        return config
    longest = config
    for epochs, images in LENGTHS:
        more = images is None or (config.images is not None and images >= config.images)
        if epochs < config.epochs or not more or (config.long_epochs is not None and config.long_epochs <= epochs):
            continue
        longer = replace(config, epochs=epochs, images=images)
        if model.total(search, longer) > limit:
            break
        longest = longer
    return longest


def truth_planned(config: ValidateConfig, num_train: int) -> str:
    """What will be trained fully, and longer, in words; the data have ``num_train`` images."""
    images = num_train if config.images is None else min(config.images, num_train)
    words = f"{config.sample} + {config.top} candidates, {epochs_text(config.epochs)} on {images:,} images"
    num = config.num_checked(num_train)
    if num:
        return f"{words}; {num} of them {config.epochs_of_check()} epochs, which shows whether that is long enough"
    if config.is_full_length(num_train) or not config.sample:
        return words
    return f"{words}; nothing shows whether that is long enough (--long-sample N)"


def search_omissions(
    search: SearchConfig, config: ValidateConfig, inspection: SpaceInspection, dataset: Dataset, *, full_training: bool
) -> str:
    """What a search, and its ``full_training`` where there is one, do less than the paper's protocol, in words."""
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
