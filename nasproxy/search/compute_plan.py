"""The plan of a search for a stated compute: what is bought, and when it will end, found by timing a few candidates.

The unit of compute is one full training of a candidate like those that are trained in the end: of the largest tenth of
the space by FLOPs, because the vote of the free scores leads there. Free scores and short trainings are counted in it
by their time.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nasproxy.condense.build_plan import time_limit
from nasproxy.config import FULL_RECIPE, ComputeConfig, ValidateConfig
from nasproxy.core.devices import DeviceChoice
from nasproxy.core.errors import NasproxyError
from nasproxy.core.wording import rough_duration
from nasproxy.data import Dataset
from nasproxy.picking.plan import PickPlan, plan_pick
from nasproxy.picking.policy import RANDOM_SHARE
from nasproxy.scores.full_training import full_recipe
from nasproxy.scores.measuring import leading, minibatch_task
from nasproxy.scores.zero_cost import ZERO_COST
from nasproxy.search.search_plan import FORWARD_SHARE, LENGTHS, TimePerImage, full_batch, time_per_image
from nasproxy.spaces import Candidate, SpaceInspection
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import real_images
from nasproxy.training.tasks import Attempt

SHORT_TIMES = 16  # full training is so many times as long as a short one, or less where it has fewer epochs
DEAREST_SHORT = 0.25  # of a full training's cost; a short training that costs more buys too little
LARGEST_FULL = 0.1  # full trainings are mostly of the largest tenth of the space,
LARGEST_SHORT = 0.2  # short ones, but for the random ones, of the largest fifth (benchmarks/RESULTS.md)
LEAST_TRAININGS = 8  # with --hours, full training is made longer while so many of them fit
NUM_TIMED = 3  # candidates whose free scores are timed
# latency differs from machine to machine. fisher_released, swap_regularised and meco_opt are variants of other scores.
# grasp, zen and vkdnw take as long as all others together. The first two did not help the model
# (benchmarks/RESULTS.md).
LEFT_OUT = ("latency", "fisher_released", "swap_regularised", "meco_opt", "grasp", "zen", "vkdnw")
FREE_SCORES = tuple(name for name in ZERO_COST if name not in LEFT_OUT)
COUNTED = ("params", "flops")  # known from the inspection of the space


@dataclass(frozen=True)
class ComputePlan:
    """What a search for a stated compute buys. It is made once, when a run begins, and kept with it.

    Args:
        pick: how many candidates are scored, trained shortly and trained fully.
        epochs: of full training.
        images: training images of full training; None: all of them.
        short_epochs: of a short training; None: there are none.
        seconds_full: of a full training.
        seconds_short: of a short training.
        seconds_scored: of the free scores of a candidate.
    """

    pick: PickPlan
    epochs: int
    images: int | None
    short_epochs: int | None
    seconds_full: float
    seconds_short: float
    seconds_scored: float

    @property
    def parts(self) -> dict[str, float]:
        """Predicted seconds of each part; "test" trains the pick once more."""
        return {
            "scored": self.pick.scored * self.seconds_scored,
            "short": self.pick.short * self.seconds_short,
            "full": self.pick.full * self.seconds_full,
            "test": self.seconds_full,
        }

    @property
    def seconds(self) -> float:
        """Predicted seconds of all parts."""
        return sum(self.parts.values())

    def validation(self, config: ComputeConfig) -> ValidateConfig:
        """The settings of its full trainings, as :func:`~nasproxy.scores.full_training.full_task` reads them."""
        return ValidateConfig(
            sample=0, epochs=self.epochs, images=self.images, seed=config.seed, precision=config.precision
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> ComputePlan:
        """The inverse of :meth:`as_json`."""
        return ComputePlan(**(values | {"pick": PickPlan(**values["pick"])}))


def plan_compute(
    inspection: SpaceInspection, dataset: Dataset, config: ComputeConfig, choice: DeviceChoice, workers: int = 1
) -> ComputePlan:
    """Times trainings and scores of a few candidates, and plans.

    Args:
        workers: processes that train at the same time, which share ``--hours``.

    Raises:
        NasproxyError: when the time does not suffice for one full training.
    """
    recipe = full_recipe(dataset, FULL_RECIPE.epochs)
    timed = time_per_image(inspection, full_batch(dataset), recipe, choice.device, config.precision)
    scored = _seconds_scored(inspection, dataset, config, choice)
    seconds = None if config.hours is None else 3600 * config.hours * workers
    epochs, images = _length(inspection, dataset, config, timed, seconds or time_limit(choice.device) * workers)
    seen = min(images or len(dataset.train), len(dataset.train))
    short_epochs = max(1, round(epochs / SHORT_TIMES))
    beside = _seconds_beside(inspection, dataset, timed, short_epochs, config, choice)
    full = beside + _trained(inspection, dataset, timed, epochs * seen, LARGEST_FULL)
    short = beside + sum(
        share * _trained(inspection, dataset, timed, short_epochs * seen, largest)
        for share, largest in ((RANDOM_SHARE, 1.0), (1 - RANDOM_SHARE, LARGEST_SHORT))
    )
    if epochs < 2 or short > DEAREST_SHORT * full:
        short_epochs, short = 0, 0.0
    if seconds is not None and seconds < 2 * full:
        raise NasproxyError(
            f"The time must suffice for two full trainings, one of them for the test accuracy of the pick, but one "
            f"takes about {rough_duration(full)} here and --hours is {config.hours:g}: give more hours, or fewer "
            "--full-epochs."
        )
    # The test accuracy of the pick takes one full training more.
    compute = config.compute if config.compute is not None else (seconds or 0.0) / full - 1
    assert compute is not None
    pick = plan_pick(compute, inspection.num_valid, scored / full, short / full if short_epochs else None)
    return ComputePlan(pick, epochs, images, short_epochs or None, full, short, scored)


def _length(
    inspection: SpaceInspection, dataset: Dataset, config: ComputeConfig, timed: TimePerImage, seconds: float
) -> tuple[int, int | None]:
    """Epochs and images of full training: those given, or the longest of ``LENGTHS`` that the time allows."""
    if config.epochs is not None:
        return config.epochs, config.images
    num = config.compute if config.compute is not None else LEAST_TRAININGS
    best: tuple[int, int | None] | None = None
    for epochs, images in LENGTHS:
        own = config.images if config.images is not None else images
        seen = min(own or len(dataset.train), len(dataset.train))
        cost = _trained(inspection, dataset, timed, epochs * seen, LARGEST_FULL)
        if best is None or (num + 1) * cost <= seconds:
            best = epochs, own
    assert best is not None
    return best


def _trained(inspection: SpaceInspection, dataset: Dataset, timed: TimePerImage, images: int, largest: float) -> float:
    """Seconds of a training that sees ``images``, and of measuring its net.

    Args:
        largest: the mean is over this share of the space, the candidates with the most FLOPs.
    """
    flops = sorted(inspection.counts(candidate).flops for candidate in inspection.valid)
    some = flops[int((1 - largest) * len(flops)) :] or flops[-1:]
    return float(timed.of(some).mean()) * (images + FORWARD_SHARE * len(dataset.val))


def _seconds_beside(
    inspection: SpaceInspection,
    dataset: Dataset,
    timed: TimePerImage,
    epochs: int,
    config: ComputeConfig,
    choice: DeviceChoice,
) -> float:
    """Mean seconds of what a training takes beside its updates: the net is built, tried, and measured on the way.

    ``epochs`` are those of a short training. On small data it takes as long as the updates.
    """
    data = full_batch(dataset)
    held_out = real_images(dataset, dataset.val)
    found = []
    for candidate in _spread(inspection):
        build = partial(inspection.space.build, candidate.params, dataset.input_shape, dataset.num_classes)
        recipe, precision = full_recipe(dataset, epochs), config.precision
        fits = [
            train_candidate(
                build, data, held_out, recipe, seed=0, device=choice.device, precision=precision, watched=True
            )
            for _ in range(2)  # the first warms up
        ]
        images = epochs * len(data.images) + FORWARD_SHARE * len(dataset.val)
        updates = images * float(timed.of([inspection.counts(candidate).flops])[0])
        found.append(max(0.0, min(fit.seconds for fit in fits) - updates))
    return sum(found) / len(found)


def _spread(inspection: SpaceInspection) -> list[Candidate]:
    """``NUM_TIMED`` candidates across the space's range of FLOPs, without copies."""
    pool = sorted(inspection.valid, key=lambda candidate: inspection.counts(candidate).flops)
    shown = {pool[round(place)].id: pool[round(place)] for place in np.linspace(0.1, 0.9, NUM_TIMED) * (len(pool) - 1)}
    return list(shown.values())


def _seconds_scored(
    inspection: SpaceInspection, dataset: Dataset, config: ComputeConfig, choice: DeviceChoice
) -> float:
    """Mean seconds of all free scores of a candidate, from ``NUM_TIMED`` across the space's range of FLOPs."""
    shown = _spread(inspection)
    tasks = leading([minibatch_task(name, dataset, config.seed) for name in FREE_SCORES if name not in COUNTED])
    total = 0.0
    for candidate in shown:
        for task in tasks:
            train = replace(
                task.train, images=task.train.images.to(choice.device), labels=task.train.labels.to(choice.device)
            )

            def build(params: Any = candidate.params) -> Any:
                return inspection.space.build(params, dataset.input_shape, dataset.num_classes)

            start = time.perf_counter()
            task.run_all(Attempt(build, train, train, 0, choice.device, lambda: None))
            total += time.perf_counter() - start
    return total / len(shown)
