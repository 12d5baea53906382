"""Jobs and their results: what a crew is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from nasproxy.config import config_hash
from nasproxy.spaces import Params
from nasproxy.training.results import Evaluation, Fit
from nasproxy.training.tasks import Task


class Builder(Protocol):
    """Makes nets from parameters: a search space, or a table of network families. It can be pickled."""

    @property
    def hash(self) -> str:
        """Two builders have the same hash exactly when they build the same nets."""

    def build(self, params: Params, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The untrained net of ``params`` for images ``(c, h, w)``."""


@dataclass(frozen=True, eq=False)
class Job:
    """Do ``task`` with ``builder``'s net of ``params``, called ``candidate``, once with each of ``seeds``."""

    task: Task
    builder: Builder
    candidate: str
    params: Params
    seeds: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """Candidate, score and setting: two jobs with the same key measure the same."""
        return self.candidate, self.task.score, self.task.setting

    @property
    def keys(self) -> tuple[tuple[str, str, str], ...]:
        """The keys of everything that the job measures; the last is its own."""
        return *((self.candidate, other, self.task.setting) for other in self.task.others), self.key

    def checkpoint(self, folder: Path | None, seed: int) -> Path | None:
        """The file in ``folder`` that keeps a long training with ``seed`` while it runs; None without a folder."""
        return None if folder is None else folder / f"{config_hash(self.key, seed)[:32]}.pt"

    def result(self, seed: int, fits: Mapping[str, Fit], *, finished: bool) -> Result:
        """The result for the ``fits`` with ``seed``, by score. ``finished`` says whether it is the job's last."""
        rows = tuple(
            Evaluation(
                **vars(fits[score]), candidate=candidate, params=self.params, score=score, setting=setting, seed=seed
            )
            for candidate, score, setting in self.keys
            if score in fits
        )
        return Result(self, rows, finished)


@dataclass(frozen=True)
class Result:
    """What one seed of ``job`` gave; ``finished`` says whether it was the job's last.

    The evaluation of the job's own score comes last.
    """

    job: Job
    evaluations: tuple[Evaluation, ...]
    finished: bool

    @property
    def seed(self) -> int:
        """The seed of every evaluation."""
        return self.evaluations[-1].seed
