"""Jobs, and the crews that do them; a crew of one trains in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from nasproxy.config import config_hash
from nasproxy.spaces import Params
from nasproxy.training.images import TrainingImages
from nasproxy.training.results import Evaluation, Fit
from nasproxy.training.tasks import Task

BEAT_SECONDS = 1.0  # between two signs of life of a worker


class Builder(Protocol):
    """What makes nets of parameters: a search space, or a table of families. It must be picklable."""

    @property
    def hash(self) -> str:
        """The same for two builders exactly when they build the same nets."""

    def build(self, params: Params, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The untrained net for images ``(c, h, w)``."""


@dataclass(frozen=True, eq=False)
class Job:
    """Train ``builder``'s net of ``params``, called ``candidate``, by ``task``, once with each of ``seeds``."""

    task: Task
    builder: Builder
    candidate: str
    params: Params
    seeds: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """Candidate, score, setting: what nobody else should train."""
        return self.candidate, self.task.score, self.task.setting

    def checkpoint(self, folder: Path | None, seed: int) -> Path | None:
        """Where in ``folder`` a long training with ``seed`` is kept while it runs."""
        return None if folder is None else folder / f"{config_hash(self.key, seed)[:32]}.pt"

    def evaluation(self, seed: int, fit: Fit) -> Evaluation:
        candidate, score, setting = self.key
        return Evaluation(**vars(fit), candidate=candidate, params=self.params, score=score, setting=setting, seed=seed)


@dataclass(frozen=True)
class Result:
    """One training of ``job``; ``finished`` with its last one."""

    job: Job
    evaluation: Evaluation
    finished: bool


class Trainer:
    """Trains on one device, where it keeps the images it has seen."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._placed: dict[int, tuple[TrainingImages, TrainingImages]] = {}

    def _place(self, images: TrainingImages) -> TrainingImages:
        if id(images) not in self._placed:
            self._placed[id(images)] = images, images.on(self.device)  # the first is kept: its id must not be reused
        return self._placed[id(images)][1]

    def train(self, job: Job, seed: int, beat: Callable[[], None], keep: Path | None) -> Fit:
        task = job.task.of_seed(seed)
        return task.run(
            partial(job.builder.build, job.params, task.input_shape, task.num_classes),
            self._place(task.train),
            self._place(task.held_out),
            seed=seed,
            device=self.device,
            beat=beat,
            checkpoint=job.checkpoint(keep, seed),
        )


class Crew(Protocol):
    """Takes jobs while it is ``free``, and gives their results back.

    ``keep`` is the folder of checkpoints of long trainings, which whoever has a result on record may remove; None: a
    training that is interrupted begins again.
    """

    @property
    def keep(self) -> Path | None: ...

    @property
    def size(self) -> int:
        """Jobs that it can work on at once."""

    @property
    def free(self) -> int:
        """Jobs that it would start at once."""

    def submit(self, job: Job) -> None:
        """Starts ``job``; only while ``free``."""

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
        """What was trained meanwhile; waits ``timeout`` seconds at most, and calls ``beat`` again and again."""


class Inline:
    """A crew of one: trains in this process."""

    size = 1

    def __init__(self, device: torch.device, *, keep: Path | None = None) -> None:
        self.keep = keep
        self._trainer = Trainer(device)
        self._job: Job | None = None

    @property
    def free(self) -> int:
        return 1 if self._job is None else 0

    def submit(self, job: Job) -> None:
        self._job = job

    def results(self, timeout: float, beat: Callable[[], None]) -> list[Result]:
        """Trains one seed of the job, however long it takes."""
        job = self._job
        if job is None:
            time.sleep(timeout)
            return []
        seed, *rest = job.seeds
        fit = self._trainer.train(job, seed, beat, self.keep)
        self._job = replace(job, seeds=tuple(rest)) if rest else None
        return [Result(job, job.evaluation(seed, fit), finished=not rest)]
