"""Random batches of real images, class by class, drawn on the device and without a read-back."""

from __future__ import annotations

import torch
from torch import Tensor

from nasproxy.core.devices import placed
from nasproxy.core.errors import NasproxyError
from nasproxy.data import Dataset


class RealBatches:
    """The training images by class: uint8 where they lie, on a CUDA device when they take under a quarter of it.

    Numbers of images and everything drawn are on ``device``.

    Raises:
        NasproxyError: when a class has no training image.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        by_class = dataset.train.by_class(dataset.num_classes)
        for name, indices in zip(dataset.class_names, by_class, strict=True):
            if len(indices) == 0:
                raise NasproxyError(f"Every class needs training images, but '{name}' has none.")
        self.device = device
        self.images = placed(dataset.train.images, device)
        self.numbers = tuple(indices.to(device) for indices in by_class)  # of the images of each class
        self.labels = dataset.train.labels.to(device)
        self._valid: dict[int, Tensor] = {}
        self.sizes = [len(indices) for indices in by_class]
        # One row of image numbers per class; the end of a short row is filled up and never drawn.
        self._table = torch.nn.utils.rnn.pad_sequence(by_class, batch_first=True).to(device)
        self._filler = torch.arange(max(self.sizes), device=device) >= torch.tensor(self.sizes, device=device)[:, None]
        self._normalize = dataset.normalize

    def count(self, label: int, size: int) -> int:
        """How many of ``size`` images a batch of class ``label`` can have: all of a smaller class."""
        return min(size, self.sizes[label])

    def valid(self, size: int) -> Tensor:
        """Places in a flattened :meth:`draw` of ``size`` that hold an image; all of them unless a class is smaller."""
        if size not in self._valid:  # moving them waits for a GPU
            width = min(size, self._table.shape[1])
            rows = [torch.arange(self.count(label, size)) + label * width for label in range(len(self.sizes))]
            self._valid[size] = torch.cat(rows).to(self.device)
        return self._valid[size]

    def draw(self, size: int, stream: torch.Generator) -> Tensor:
        """``(C, min(size, largest class))`` numbers of different images of each class, uniformly by ``stream``.

        In the row of a class with fewer images the first of them are valid, in random order.
        """
        keys = torch.rand(self._table.shape, generator=stream, device=self.device)
        keys = keys.masked_fill(self._filler, 2.0)
        order = keys.topk(min(size, keys.shape[1]), dim=1, largest=False).indices
        return self._table.gather(1, order)

    def draw_any(self, size: int, stream: torch.Generator) -> Tensor:
        """``(size,)`` numbers of images of any class, uniformly and with replacement by ``stream``."""
        return torch.randint(len(self.images), (size,), generator=stream, device=self.device)

    def take(self, numbers: Tensor) -> Tensor:
        """The images of ``numbers`` ``(n,)``, normalised float32 ``(n, c, h, w)`` on the device."""
        return self.normalize(self.images[numbers.to(self.images.device)])

    def normalize(self, images: Tensor) -> Tensor:
        """``images`` uint8 as normalised float32 on the device."""
        return self._normalize(images.to(self.device))
