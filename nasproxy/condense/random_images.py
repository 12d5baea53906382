"""Random real images, equally many of each class: the baseline that every proxy set has to beat."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nasproxy.config import CondenseConfig
from nasproxy.datasets import Dataset, LabeledImages
from nasproxy.errors import NasproxyError
from nasproxy.randomness import generator


def draw_per_class(data: LabeledImages, num_classes: int, ipc: int, seed: int) -> LabeledImages:
    """``ipc`` different images of each class, sorted by class: uint8 ``(C · ipc, c, h, w)`` and labels ``(C · ipc,)``.

    Raises:
        NasproxyError: when a class has fewer than ``ipc`` images.
    """
    chosen = []
    for label, indices in enumerate(data.by_class(num_classes)):
        if len(indices) < ipc:
            raise NasproxyError(
                f"`ipc` real images must exist in every class, but class {label} has {len(indices)} training images "
                f"and ipc={ipc}: use a smaller --ipc."
            )
        chosen.append(indices[torch.randperm(len(indices), generator=generator(seed, "random-images", label))[:ipc]])
    index = torch.cat(chosen)
    return LabeledImages(data.images[index], data.labels[index])


def random_images(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    on_snapshot: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, Tensor, float]:
    """``ipc`` training images of each class, drawn uniformly without replacement by ``config.seed``.

    Takes and returns what every condenser does, see :func:`nasproxy.condense.build_proxy`.
    """
    start = time.perf_counter()
    drawn = draw_per_class(dataset.train, dataset.num_classes, config.ipc, config.seed)
    return dataset.normalize(drawn.images), drawn.labels, time.perf_counter() - start
