"""Does the tasks of jobs on one device: in this process, or in a worker's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from nasproxy.training.images import TrainingImages
from nasproxy.training.jobs import Job
from nasproxy.training.results import Fit
from nasproxy.training.tasks import Attempt


class Trainer:
    """Trains on ``device``, where it keeps the images it has seen."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._placed: dict[int, tuple[TrainingImages, TrainingImages]] = {}

    def train(self, job: Job, seed: int, beat: Callable[[], None], keep: Path | None) -> dict[str, Fit]:
        """Does ``job`` with one seed: the fit of its score, and of those that its task gives as well.

        Args:
            beat: is called now and then, as a sign of life.
            keep: the folder of checkpoints; None keeps nothing.
        """
        task = job.task.of_seed(seed)
        return task.run_all(
            Attempt(
                build=partial(job.builder.build, job.params, task.input_shape, task.num_classes),
                train=self._place(task.train),
                held_out=self._place(task.held_out),
                seed=seed,
                device=self.device,
                beat=beat,
                checkpoint=job.checkpoint(keep, seed),
            )
        )

    def _place(self, images: TrainingImages) -> TrainingImages:
        if id(images) not in self._placed:
            self._placed[id(images)] = images, images.on(self.device)  # the first is kept: its id must not be reused
        return self._placed[id(images)][1]
