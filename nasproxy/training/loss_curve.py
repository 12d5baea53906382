"""The training losses of a training, as means over equal parts of its epochs.

Their sum ranks architectures by how fast they learn. It is read from trainings that are done anyway.

Reference: Ru, Lyle, Schut, Fil, van der Wilk, Gal, "Speedy Performance Estimation for Neural Architecture Search",
NeurIPS 2021 (the sum of training losses, TSE).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nasproxy.training.results import Fit

MOST_PARTS = 32
LATE_SHARE = 0.2  # of the parts of a training, whose mean loss is its late loss


class LossCurve:
    """Adds up the losses of updates on the device, which is not waited for.

    Args:
        epochs: of the training. It has as many parts as the largest divisor of ``epochs`` up to ``MOST_PARTS``.
    """

    def __init__(self, epochs: int, device: torch.device) -> None:
        self._parts = max(parts for parts in range(1, MOST_PARTS + 1) if epochs % parts == 0)
        self._epochs_each = epochs // self._parts
        self._sums = torch.zeros(self._parts, device=device)
        self._updates = [0] * self._parts
        self._complete = True

    def add(self, epoch: int, loss: Tensor) -> None:
        """Counts the mean loss of a batch, a scalar on the device, of ``epoch``, from 0."""
        part = epoch // self._epochs_each
        self._sums[part] += loss
        self._updates[part] += 1

    def values(self) -> tuple[float, ...]:
        """The mean loss of an update in each part; empty when losses before an interruption are not known."""
        if not self._complete:
            return ()
        return tuple(total / num for total, num in zip(self._sums.tolist(), self._updates, strict=True))

    def as_content(self) -> dict[str, object]:
        """What :meth:`restore` needs."""
        return {"sums": self._sums, "updates": self._updates, "complete": self._complete}

    def restore(self, content: dict[str, object] | None) -> None:
        """Goes on from ``content``; None is a checkpoint of an earlier version, which has no losses."""
        if content is None:
            self._complete = False
            return
        sums, updates = content["sums"], content["updates"]
        assert isinstance(sums, Tensor)
        assert isinstance(updates, list)
        self._sums.copy_(sums)
        self._updates[:] = updates
        self._complete = bool(content["complete"])


def loss_columns(scores: Sequence[Fit]) -> dict[str, np.ndarray]:
    """What the losses of n trainings say, as columns ``(n,)``; a higher number means less loss.

    Args:
        scores: one training of each candidate, or the mean of several.

    Returns:
        "held-out loss", "training losses" (their sum) and "late training loss", each only where all candidates have it.
    """
    found: dict[str, np.ndarray] = {}
    if all(score.loss is not None for score in scores):
        found["held-out loss"] = -np.array([score.loss for score in scores], dtype=float)
    parts = {len(score.train_losses) for score in scores}
    if len(parts) == 1 and 0 not in parts:
        losses = np.array([score.train_losses for score in scores])
        late = max(1, round(LATE_SHARE * losses.shape[1]))
        found["training losses"] = -losses.mean(1)
        if losses.shape[1] > 1:
            found["late training loss"] = -losses[:, -late:].mean(1)
    return found
