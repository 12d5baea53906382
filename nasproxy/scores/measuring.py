"""Scores that need no training, as tasks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nasproxy.config import config_hash
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.proxy_set import ProxySet
from nasproxy.networks import seeded
from nasproxy.scores.zero_cost import MINIBATCH, ZERO_COST, measure
from nasproxy.training.candidate import failure_of
from nasproxy.training.images import TrainingImages, real_images
from nasproxy.training.results import FailureKind, Fit, failed_fit
from nasproxy.training.tasks import Task


@dataclass(frozen=True, kw_only=True)
class MeasuringTask(Task):
    """Measures a score that needs no training, by its name in ``ZERO_COST``, on the minibatch ``train``."""

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
        try:
            value = measure(self.score, seeded(build, derive_seed(seed, "init")).to(device), images, labels, seed=seed)
        except (RuntimeError, ValueError) as error:
            return failure_of(error, time.perf_counter() - start)
        seconds = time.perf_counter() - start
        if not math.isfinite(value):
            kind = FailureKind.MINUS_INFINITY if value == -math.inf else FailureKind.UNDEFINED
            return failed_fit(kind, f"undefined: {self.score} is {value}", seconds)
        return Fit(value, None, seconds)


def zero_cost_task(score: str, proxy: ProxySet, dataset: Dataset) -> MeasuringTask:
    """A score of ``ZERO_COST`` on ``MINIBATCH`` training images, the same for every candidate."""
    seed = int(proxy.provenance["config"]["seed"])
    index = torch.randperm(len(dataset.train), generator=generator(seed, "minibatch"))[:MINIBATCH]
    minibatch = LabeledImages(dataset.train.images[index], dataset.train.labels[index])
    return MeasuringTask(
        score=score,
        label=ZERO_COST[score].label,
        train=real_images(dataset, minibatch),
        num_classes=dataset.num_classes,
        setting=config_hash("minibatch", len(index), seed, dataset.fingerprint)[:16],
        alone=score == "latency",
    )
