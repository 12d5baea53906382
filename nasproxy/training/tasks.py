"""What is measured of a candidate: a task, described by its images, and done once for each seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import nn

from nasproxy.config import Recipe, config_hash
from nasproxy.training.candidate import train_candidate
from nasproxy.training.images import NO_IMAGES, TrainingImages
from nasproxy.training.results import Fit


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One number of a candidate for each seed, from the images ``train`` and ``held_out``.

    ``score`` is its name and ``label`` what people read; ``setting`` is a digest of everything that determines the
    number besides candidate and seed. With ``alone`` no other task may run at the same time on the device.
    """

    score: str
    label: str
    train: TrainingImages
    held_out: TrainingImages = NO_IMAGES
    num_classes: int
    setting: str
    alone: bool = False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(c, h, w)`` of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def of_seed(self, seed: int) -> Self:
        """The task that is done with ``seed``."""
        return self

    @abstractmethod
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
        """Does the task once, with its images as they were moved to ``device``.

        Args:
            build: makes the untrained net.
            beat: is called now and then, to show that the work goes on.
            checkpoint: the file that keeps a long training, so that it can be resumed.
        """


@dataclass(frozen=True, kw_only=True)
class TrainingTask(Task):
    """Train on ``train`` by ``recipe``, measure on ``held_out``: a trained score, or the full accuracy.

    Its images lie in main memory; whoever trains moves them. With ``precision`` "bfloat16" the net's products are taken
    in it, weights and updates stay float32. ``watched`` trainings are also measured on the way. ``made_in``: seconds
    that making its images took, once.

    ``sets`` are several sets of images, each with its recipe, the first of them ``train`` and ``recipe``: seed k trains
    on the k-th, from the first again, and each took ``made_in``. Empty: every seed trains on ``train``.
    """

    recipe: Recipe
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
        """Trains a net once and measures it; a long training is kept in ``checkpoint`` and resumed from it."""
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


def task_setting(images: str, recipe: Recipe, held_out: str, precision: str = "float32") -> str:
    """Digest that two trainings share exactly when images, recipe, held-out images and precision are the same."""
    lower = [] if precision == "float32" else [precision]
    return config_hash(images, recipe.as_json(), held_out, *lower)[:16]
