"""The first images of a set: noise, or real images drawn at random for each class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nasproxy.config import METHODS, CondenseConfig
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import generator
from nasproxy.data import Dataset, LabeledImages
from nasproxy.data.multi_formation import encode

# -------------------------------------------------------------------------------------------------------- algorithm 1


def initial_images(dataset: Dataset, config: CondenseConfig) -> Tensor:
    """``(n, c, h, w)`` float32, sorted by class: standard normal noise, or real images of each class."""
    counts = config.counts(dataset.num_classes)
    if config.init == "real":
        real = draw_per_class(dataset.train, [count * config.formation**2 for count in counts], config.seed)
        return encode(dataset.normalize(real.images), config.formation)
    shape = (sum(counts), *dataset.input_shape)
    return torch.randn(shape, generator=generator(config.seed, "noise"))


def initial_labels(dataset: Dataset, config: CondenseConfig) -> Tensor:
    """The class of each of :func:`initial_images`: int64 ``(n,)``."""
    return torch.arange(dataset.num_classes).repeat_interleave(torch.tensor(config.counts(dataset.num_classes)))


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


def check_images(dataset: Dataset, config: CondenseConfig) -> None:
    """Says that a class has too few images before anything is planned, for methods that begin with or choose real ones.

    Raises:
        NasproxyError: when a class has fewer images than the set is to hold of it.
    """
    spec = METHODS[config.method]
    needs = config.init == "real" if "init" in spec.reads else spec.real_images or not spec.learns
    if config.num_images is None and needs:
        enough_images(dataset.train, [count * config.formation**2 for count in config.counts(dataset.num_classes)])


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
