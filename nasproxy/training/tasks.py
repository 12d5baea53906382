"""What is measured of a candidate: a task holds the images and is done once for each seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import nn

from nasproxy.config import Recipe, config_hash
from nasproxy.data import Dataset
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import NO_IMAGES, TrainingImages, real_images
from nasproxy.training.results import Fit


@dataclass(frozen=True)
class Attempt:
    """What a task is done with: one candidate, one seed, one device.

    Attributes:
        build: makes the untrained net.
        train, held_out: the task's images, as they were moved to ``device``.
        seed: of everything that is drawn at random.
        device: where the net runs.
        beat: is called now and then, as a sign of life.
        checkpoint: the file that keeps a long training, so that it can be resumed; None keeps nothing.
    """

    build: Callable[[], nn.Module]
    train: TrainingImages
    held_out: TrainingImages
    seed: int
    device: torch.device
    beat: Callable[[], None]
    checkpoint: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One number of a candidate for each seed.

    Attributes:
        score: the name of the number, for code.
        label: its name for people.
        train, held_out: the images, in main memory; a trainer moves them to its device.
        num_classes: outputs of the net.
        setting: a digest of everything that determines the number besides candidate and seed.
        alone: no other task may run at the same time on the device.
        others: the scores that the same run gives as well, under the same setting.
    """

    score: str
    label: str
    train: TrainingImages
    held_out: TrainingImages = NO_IMAGES
    num_classes: int
    setting: str
    alone: bool = False
    others: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def of_seed(self, seed: int) -> Self:
        """The task that is done with ``seed``; here the same for all seeds."""
        return self

    @abstractmethod
    def run(self, attempt: Attempt) -> Fit:
        """Does the task once. A net that cannot be measured is a failure of the fit, not an error."""

    def run_all(self, attempt: Attempt) -> dict[str, Fit]:
        """The same, with the fits of ``others``, by score."""
        return {self.score: self.run(attempt)}


@dataclass(frozen=True, kw_only=True)
class TrainingTask(Task):
    """Trains on ``train`` by ``recipe`` and measures on ``held_out``: a trained score, or the full accuracy.

    Attributes:
        recipe: how the net trains.
        precision: "bfloat16" takes the net's products in it; weights and updates stay float32.
        watched: the net is also measured during the training.
        made_in: seconds that making the images took, once.
        sets: several sets of images, each with its recipe and each made in ``made_in`` seconds; the first are ``train``
            and ``recipe``. Seed k trains on set k, and after the last set on the first again. Empty: every seed trains
            on ``train``.
    """

    recipe: Recipe
    precision: str = "float32"
    watched: bool = False
    made_in: float = 0.0
    sets: tuple[tuple[TrainingImages, Recipe], ...] = ()

    def of_seed(self, seed: int) -> TrainingTask:
        """The task on the one set that ``seed`` trains on."""
        if not self.sets:
            return self
        train, recipe = self.sets[seed % len(self.sets)]
        return replace(self, train=train, recipe=recipe, sets=())

    def num_sets(self, num_seeds: int) -> int:
        """How many sets of images the seeds 0 … ``num_seeds`` − 1 train on."""
        return min(num_seeds, max(1, len(self.sets)))

    def run(self, attempt: Attempt) -> Fit:
        """Trains a net once and measures it."""
        return train_candidate(
            attempt.build,
            attempt.train,
            attempt.held_out,
            self.recipe,
            seed=attempt.seed,
            device=attempt.device,
            precision=self.precision,
            checkpoint=attempt.checkpoint,
            watched=self.watched,
            on_update=lambda *_: attempt.beat(),
        )


def training_task(
    dataset: Dataset,
    *,
    score: str,
    label: str,
    train: TrainingImages,
    images: str,
    recipe: Recipe,
    precision: str = "float32",
    split: str = "val",
) -> TrainingTask:
    """The task to train on ``train`` and to measure on a split of ``dataset``.

    Args:
        dataset: the data that ``train`` was made of.
        score, label, train, recipe, precision: see :class:`TrainingTask`.
        images: an identity of ``train``, such as a digest.
        split: "val", or "test" for the final numbers of a report.
    """
    held_out = {"val": dataset.val, "test": dataset.test}[split]
    return TrainingTask(
        score=score,
        label=label,
        train=train,
        held_out=real_images(dataset, held_out),
        recipe=recipe,
        num_classes=dataset.num_classes,
        setting=task_setting(images, recipe, f"{split} of {dataset.fingerprint}", precision),
        precision=precision,
    )


def task_setting(images: str, recipe: Recipe, held_out: str, precision: str = "float32") -> str:
    """The ``setting`` of a training: equal exactly when images, recipe, held-out images and precision are.

    Args:
        images: an identity of the training images, such as a digest.
        held_out: an identity of the held-out images.

    Returns:
        16 hex digits.
    """
    lower = [] if precision == "float32" else [precision]
    return config_hash(images, recipe.as_json(), held_out, *lower)[:16]
