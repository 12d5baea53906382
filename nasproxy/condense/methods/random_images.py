"""Random real images, equally many of each class: the baseline that every proxy set has to beat."""

from __future__ import annotations

import time

from nasproxy.condense.contract import BuildRun, Condensed, Condenser
from nasproxy.condense.initial import draw_per_class
from nasproxy.config import CondenseConfig
from nasproxy.data import Dataset


def random_images(dataset: Dataset, config: CondenseConfig, run: BuildRun) -> Condensed:
    """``ipc`` training images of each class, drawn uniformly without replacement by ``config.seed``."""
    start = time.perf_counter()
    drawn = draw_per_class(dataset.train, config.counts(dataset.num_classes), config.seed)
    return Condensed(dataset.normalize(drawn.images), drawn.labels, time.perf_counter() - start)


METHOD = Condenser(random_images, passes=lambda dataset, config: 0.0)
