"""Random real images, equally many of each class: the baseline that every proxy set has to beat."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nasproxy.condense.contract import Condensed, Progress, Snapshot
from nasproxy.config import CondenseConfig
from nasproxy.datasets import Dataset, LabeledImages
from nasproxy.errors import NasproxyError
from nasproxy.randomness import generator


def enough_images(data: LabeledImages, counts: Sequence[int]) -> list[Tensor]:
    """The numbers of the images of each class, of which class c must have ``counts[c]``.

    Raises:
        NasproxyError: when one has fewer.
    """
    by_class = data.by_class(len(counts))
    for label, (indices, count) in enumerate(zip(by_class, counts, strict=True)):
        if len(indices) < count:
            raise NasproxyError(
                f"`ipc` real images must exist in every class, but class {label} has {len(indices)} training images "
                f"and ipc={count}: use a smaller --ipc."
            )
    return by_class


def draw_per_class(data: LabeledImages, counts: Sequence[int], seed: int) -> LabeledImages:
    """``counts[c]`` different images of each class c, sorted by class: uint8 ``(n, c, h, w)`` and labels ``(n,)``.

    Raises:
        NasproxyError: when a class has fewer images.
    """
    chosen = []
    for label, (indices, count) in enumerate(zip(enough_images(data, counts), counts, strict=True)):
        order = torch.randperm(len(indices), generator=generator(seed, "random-images", label))
        chosen.append(indices[order[:count]])
    index = torch.cat(chosen)
    return LabeledImages(data.images[index], data.labels[index])


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

    Takes and returns what every condenser does, see :func:`nasproxy.condense.build_proxy`.
    """
    start = time.perf_counter()
    drawn = draw_per_class(dataset.train, config.counts(dataset.num_classes), config.seed)
    return Condensed(dataset.normalize(drawn.images), drawn.labels, time.perf_counter() - start)
