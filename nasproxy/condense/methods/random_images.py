"""Random real images, equally many of each class: the baseline that every proxy set has to beat."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from nasproxy.condense.contract import Condensed, Progress, Snapshot
from nasproxy.condense.initial import draw_per_class
from nasproxy.config import CondenseConfig
from nasproxy.data import Dataset


def random_images(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> Condensed:
    """``ipc`` training images of each class, drawn uniformly without replacement by ``config.seed``.

    Takes and returns what every condenser does, see :func:`nasproxy.condense.build.build_proxy`.
    """
    start = time.perf_counter()
    drawn = draw_per_class(dataset.train, config.counts(dataset.num_classes), config.seed)
    return Condensed(dataset.normalize(drawn.images), drawn.labels, time.perf_counter() - start)
