"""Images to train or measure on, as tensors that are prepared batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nasproxy.core.devices import placed
from nasproxy.data import Dataset, LabeledImages, normalize


@dataclass(frozen=True)
class TrainingImages:
    """What a net trains on or is measured on.

    Attributes:
        images: ``(n, c, h, w)``: normalised floats, or what ``prepare`` takes.
        labels: classes ``(n,)`` int64, or probabilities ``(n, C)``.
        prepare: turns a batch of ``images`` into normalised floats, on the batch's device. Full data stay uint8 until
            then, a quarter of the memory. None: the images are normalised floats already.
    """

    images: Tensor
    labels: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def batch(self, index: Tensor | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images and labels at ``index``, prepared, on ``device``."""
        images = self.images[index].to(device)
        return images if self.prepare is None else self.prepare(images), self.labels[index].to(device)

    def on(self, device: torch.device) -> TrainingImages:
        """The same images on a GPU ``device``, if they take less than a quarter of its free memory; else ``self``."""
        images = placed(self.images, device)
        return self if images is self.images else TrainingImages(images, self.labels.to(device), self.prepare)


NO_IMAGES = TrainingImages(torch.empty(0), torch.empty(0))


def real_images(dataset: Dataset, data: LabeledImages) -> TrainingImages:
    """``data``, a split of ``dataset`` or a part of one: uint8 images that are normalised batch by batch."""
    return TrainingImages(data.images, data.labels, partial(normalize, mean=dataset.mean, std=dataset.std))
