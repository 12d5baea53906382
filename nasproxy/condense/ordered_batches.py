"""Batches whose order is learned and stored with the set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import even_parts
from nasproxy.core.errors import NasproxyError

# ------------------------------------------------------------------------------------------------- batches in order


def num_batches(config: CondenseConfig, num_classes: int) -> int:
    """Into how many batches the set is cut, each with equally many images of a class.

    ``unroll_steps``, or as many as the smallest class has images: [DD] gives every step at least one image per class.

    Raises:
        NasproxyError: when the images of a class cannot be shared out evenly.
    """
    counts = config.counts(num_classes)
    number = min(config.unroll_steps, min(counts))
    most = math.gcd(*counts)
    if most % number:
        fitting = ", ".join(str(value) for value in range(1, most + 1) if most % value == 0)
        uneven = next(count for count in counts if count % number)
        raise NasproxyError(
            f"Every step needs equally many images of a class, but {uneven} of them cannot be shared by "
            f"{number} steps (unroll_steps={config.unroll_steps}): use one of these --unroll-steps: {fitting}."
        )
    return number


def batch_order(counts: tuple[int, ...], number: int) -> Tensor:
    """``(n,)`` places in a set sorted by class, batch after batch: t, t + ``number``, … of each class are batch t."""
    ranks = [(rank % number, label) for label, count in enumerate(counts) for rank in range(count)]
    return torch.tensor(sorted(range(len(ranks)), key=lambda place: (ranks[place], place)), dtype=torch.int64)


def in_this_order(*, batch_size: int, epochs: int, lrs: tuple[float, ...] = (), **others: Any) -> dict[str, Any]:
    """The fields of a recipe that repeats training as it was unrolled, whatever recipe was asked for."""
    plain = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
        "augmentation": "none",
        "label_smoothing": 0.0,
        "shuffle": False,
    }
    learned = {"schedule": "learned", "lr": sum(lrs) / len(lrs), "lrs": lrs} if lrs else {"schedule": "constant"}
    return plain | learned | {"batch_size": batch_size, "epochs": epochs} | others


def in_parts(real: RealBatches, numbers: Tensor, size: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Real images of ``numbers`` and their labels, ``size`` in each part; None: one part."""
    for part in numbers.split(even_parts(len(numbers), size or len(numbers))):
        yield real.take(part), real.labels[part]
