"""What is measured: a task, one row per candidate, task and seed, and their mean over seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from nasproxy.config import Recipe, config_hash
from nasproxy.networks import seeded
from nasproxy.randomness import derive_seed
from nasproxy.spaces import Params
from nasproxy.train import Fit, TrainingImages, failure_of, train_candidate
from nasproxy.zero_cost import measure

NO_IMAGES = TrainingImages(torch.empty(0), torch.empty(0))


@dataclass(frozen=True)
class Evaluation:
    """One candidate's score with one seed.

    ``score`` is a name in ``SCORES``, or "full" or "test" for the full accuracy; ``setting`` is a digest of the images,
    the recipe and the held-out split. ``value`` is the held-out accuracy, a fraction, of a trained score, whose
    held-out cross-entropy is ``loss``; with a ``failure`` it is None. ``curve`` and ``joules`` as in
    :class:`~nasproxy.train.Fit`.
    """

    candidate: str
    params: Params
    score: str
    setting: str
    seed: int
    value: float | None
    loss: float | None
    seconds: float
    failure: str | None = None
    curve: tuple[tuple[int, float], ...] = ()
    joules: float | None = None


@dataclass(frozen=True)
class TrainingTask:
    """Train on ``train`` by ``recipe``, measure on ``held_out``: a trained score, or the full accuracy.

    Its images lie in main memory; whoever trains moves them. With ``precision`` "bfloat16" the net's products are taken
    in it, weights and updates stay float32. ``watched`` trainings are also measured on the way. ``made_in``: seconds
    that making its images took, once.

    ``sets`` are several sets of images, each with its recipe, the first of them ``train`` and ``recipe``: seed k trains
    on the k-th, from the first again, and each took ``made_in``. Empty: every seed trains on ``train``.
    """

    score: str
    label: str
    train: TrainingImages
    held_out: TrainingImages
    recipe: Recipe
    num_classes: int
    setting: str
    precision: str = "float32"
    watched: bool = False
    made_in: float = 0.0
    sets: tuple[tuple[TrainingImages, Recipe], ...] = ()

    def of_seed(self, seed: int) -> TrainingTask:
        """What is trained with ``seed``: on one set."""
        if not self.sets:
            return self
        train, recipe = self.sets[seed % len(self.sets)]
        return replace(self, train=train, recipe=recipe, sets=())

    def num_sets(self, num_seeds: int) -> int:
        """How many sets of images so many seeds train on."""
        return min(num_seeds, max(1, len(self.sets)))

    @property
    def alone(self) -> bool:
        """Whether nothing else may run beside it."""
        return False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def run(
        self,
        build: Callable[[], nn.Module],
        train: TrainingImages,
        held_out: TrainingImages,
        *,
        seed: int,
        device: torch.device,
        beat: Callable[[], None],
        checkpoint: Path | None = None,
    ) -> Fit:
        """The task done once, with its images as they were moved to ``device``; ``beat`` is called now and then.

        A long training is kept in ``checkpoint``, and goes on from it.
        """
        return train_candidate(
            build,
            train,
            held_out,
            self.recipe,
            seed=seed,
            device=device,
            precision=self.precision,
            checkpoint=checkpoint,
            watched=self.watched,
            on_update=lambda *_: beat(),
        )


@dataclass(frozen=True)
class MeasuringTask:
    """Measure a score that needs no training, by its name in ``ZERO_COST``, on the minibatch ``train``.

    With ``alone`` nothing else may run beside it, on this device.
    """

    score: str
    label: str
    train: TrainingImages
    num_classes: int
    setting: str
    alone: bool = False
    held_out: TrainingImages = NO_IMAGES

    def of_seed(self, seed: int) -> MeasuringTask:
        """What is measured with ``seed``."""
        return self

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def run(
        self,
        build: Callable[[], nn.Module],
        train: TrainingImages,
        held_out: TrainingImages,
        *,
        seed: int,
        device: torch.device,
        beat: Callable[[], None],
        checkpoint: Path | None = None,
    ) -> Fit:
        """As :meth:`TrainingTask.run`, but never kept; a score that is infinite or NaN is a failure, too."""
        start = time.perf_counter()
        images, labels = train.batch(slice(None), device)
        failure, value = None, math.nan
        try:
            value = measure(self.score, seeded(build, derive_seed(seed, "init")).to(device), images, labels, seed=seed)
            if not math.isfinite(value):
                failure = f"undefined: {self.score} {MINUS_INFINITY if value == -math.inf else f'is {value}'}"
        except (RuntimeError, ValueError) as error:
            failure = failure_of(error)
        return Fit(None if failure else value, None, time.perf_counter() - start, failure)


MINUS_INFINITY = "is -inf"  # how the failure of a score ends that is below all numbers

Task = TrainingTask | MeasuringTask


def task_setting(images: str, recipe: Recipe, held_out: str, precision: str = "float32") -> str:
    """Digest that two trainings share exactly when images, recipe, held-out images and precision are the same."""
    lower = [] if precision == "float32" else [precision]
    return config_hash(images, recipe.as_json(), held_out, *lower)[:16]


@dataclass(frozen=True)
class MeanScore:
    """Mean over seeds: ``value`` with standard deviation ``std``, ``loss``, total ``seconds``; or a ``failure``.

    ``curve`` is the mean one, ``joules`` the sum, where every seed has them.
    """

    value: float | None
    std: float | None
    loss: float | None
    seconds: float
    num_seeds: int
    failure: str | None
    curve: tuple[tuple[int, float], ...] = ()
    joules: float | None = None

    @property
    def is_lowest(self) -> bool:
        """Whether it failed because the score is minus infinity, which no table holds but any ranking can."""
        return self.failure is not None and self.failure.endswith(MINUS_INFINITY)


def mean_score(evaluations: list[Evaluation]) -> MeanScore:
    """Averages one candidate's seeds; one failed seed fails the candidate, with the seed's reason.

    ``std`` is the sample standard deviation, None for one seed.
    """
    seconds = sum(evaluation.seconds for evaluation in evaluations)
    n = len(evaluations)
    if n == 0:
        return MeanScore(None, None, None, 0.0, 0, "no training is recorded")
    for evaluation in evaluations:
        if evaluation.failure is not None:
            return MeanScore(None, None, None, seconds, n, evaluation.failure)
    values = [evaluation.value for evaluation in evaluations if evaluation.value is not None]
    losses = [evaluation.loss for evaluation in evaluations if evaluation.loss is not None]
    mean = sum(values) / n
    std = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5 if n > 1 else None
    epochs = {tuple(epoch for epoch, _ in evaluation.curve) for evaluation in evaluations}
    curve: tuple[tuple[int, float], ...] = ()
    if len(epochs) == 1:
        by_epoch = zip(*(evaluation.curve for evaluation in evaluations), strict=True)
        curve = tuple((points[0][0], sum(value for _, value in points) / n) for points in by_epoch)
    energies = [evaluation.joules for evaluation in evaluations if evaluation.joules is not None]
    joules = sum(energies) if len(energies) == n else None
    return MeanScore(mean, std, sum(losses) / n, seconds, n, None, curve, joules)
