"""Scores that need no training, as tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from nasproxy.config import config_hash
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import ProxySet
from nasproxy.networks import seeded
from nasproxy.scores.zero_cost import MINIBATCH, ZERO_COST, measure_group, together
from nasproxy.training.candidate import failure_of
from nasproxy.training.images import real_images
from nasproxy.training.results import FailureKind, Fit, failed_fit
from nasproxy.training.tasks import Attempt, Task


@dataclass(frozen=True, kw_only=True)
class MeasuringTask(Task):
    """Measures a score that needs no training, by its name in ``ZERO_COST``, on the minibatch ``train``.

    ``others`` are scores that share its passes, see :func:`~nasproxy.scores.zero_cost.together`.
    """

    def run(self, attempt: Attempt) -> Fit:
        """Measures an untrained net once. A score that is infinite or NaN is a failure, too."""
        return self._fits((self.score,), attempt)[self.score]

    def run_all(self, attempt: Attempt) -> dict[str, Fit]:
        """The same, with ``others``. The time of all is shared equally among them."""
        return self._fits((self.score, *self.others), attempt)

    def _fits(self, scores: tuple[str, ...], attempt: Attempt) -> dict[str, Fit]:
        start = time.perf_counter()
        images, labels = attempt.train.batch(slice(None), attempt.device)
        found: dict[str, float | RuntimeError | ValueError]
        try:
            net = seeded(attempt.build, derive_seed(attempt.seed, "init")).to(attempt.device)
            found = measure_group(scores, net, images, labels, seed=attempt.seed)
        except (RuntimeError, ValueError) as error:
            found = dict.fromkeys(scores, error)
        seconds = (time.perf_counter() - start) / len(scores)
        return {score: _fit(score, value, seconds) for score, value in found.items()}


def _fit(score: str, value: float | RuntimeError | ValueError, seconds: float) -> Fit:
    if isinstance(value, RuntimeError | ValueError):
        return failure_of(value, seconds)
    if not math.isfinite(value):
        kind = FailureKind.MINUS_INFINITY if value == -math.inf else FailureKind.UNDEFINED
        return failed_fit(kind, f"undefined: {score} is {value}", seconds)
    return Fit(value, None, seconds)


def zero_cost_task(score: str, proxy: ProxySet, dataset: Dataset) -> MeasuringTask:
    """The task of a score in ``ZERO_COST``, on the minibatch that follows from the seed of ``proxy``."""
    return minibatch_task(score, dataset, int(proxy.provenance["config"]["seed"]))


def minibatch_task(score: str, dataset: Dataset, seed: int) -> MeasuringTask:
    """The task of a score in ``ZERO_COST``, on ``MINIBATCH`` training images, the same for every candidate."""
    index = torch.randperm(len(dataset.train), generator=generator(seed, "minibatch"))[:MINIBATCH]
    minibatch = LabeledImages(dataset.train.images[index], dataset.train.labels[index])
    return MeasuringTask(
        score=score,
        label=ZERO_COST[score].label,
        train=real_images(dataset, minibatch),
        num_classes=dataset.num_classes,
        setting=config_hash("minibatch", len(index), seed, dataset.fingerprint)[:16],
        alone=ZERO_COST[score].alone,
    )


def shared(tasks: Sequence[Task]) -> list[Task]:
    """``tasks`` where the first of those that share passes also gives the scores of the others."""
    by_setting: dict[str, list[str]] = {}
    for task in tasks:
        if isinstance(task, MeasuringTask):
            by_setting.setdefault(task.setting, []).append(task.score)
    others = {
        (setting, first): rest
        for setting, names in by_setting.items()
        for first, *rest in together(dict.fromkeys(names))
    }
    return [
        replace(task, others=tuple(others.get((task.setting, task.score), ())))
        if isinstance(task, MeasuringTask)
        else task
        for task in tasks
    ]


def leading(tasks: Sequence[Task]) -> list[Task]:
    """Those of :func:`shared` ``tasks`` that give the scores of all."""
    found = shared(tasks)
    given = {other for task in found for other in task.others}
    return [task for task in found if task.score not in given]
