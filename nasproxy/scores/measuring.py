"""Scores that need no training, as tasks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from nasproxy.config import config_hash
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import ProxySet
from nasproxy.networks import seeded
from nasproxy.scores.zero_cost import MINIBATCH, ZERO_COST, measure
from nasproxy.training.candidate import failure_of
from nasproxy.training.images import real_images
from nasproxy.training.results import FailureKind, Fit, failed_fit
from nasproxy.training.tasks import Attempt, Task


@dataclass(frozen=True, kw_only=True)
class MeasuringTask(Task):
    """Measures a score that needs no training, by its name in ``ZERO_COST``, on the minibatch ``train``."""

    def run(self, attempt: Attempt) -> Fit:
        """Measures an untrained net once. A score that is infinite or NaN is a failure, too."""
        start = time.perf_counter()
        images, labels = attempt.train.batch(slice(None), attempt.device)
        try:
            net = seeded(attempt.build, derive_seed(attempt.seed, "init")).to(attempt.device)
            value = measure(self.score, net, images, labels, seed=attempt.seed)
        except (RuntimeError, ValueError) as error:
            return failure_of(error, time.perf_counter() - start)
        seconds = time.perf_counter() - start
        if not math.isfinite(value):
            kind = FailureKind.MINUS_INFINITY if value == -math.inf else FailureKind.UNDEFINED
            return failed_fit(kind, f"undefined: {self.score} is {value}", seconds)
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
