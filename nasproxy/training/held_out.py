"""Measures a trained net on held-out images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nasproxy.core.devices import float32_as, products_in
from nasproxy.training.images import TrainingImages

MEASURING_BATCH = 512


@torch.no_grad()
def accuracy_and_loss(
    net: nn.Module,
    data: TrainingImages,
    device: torch.device,
    *,
    per_pass: int = MEASURING_BATCH,
    precision: str = "float32",
) -> tuple[float, float]:
    """Measures ``net`` on ``data`` and leaves it in evaluation mode.

    Args:
        net: on ``device``; it gives logits ``(n, C)``.
        data: images with classes ``(n,)``.
        per_pass: images that go through the net at once.
        precision: of the net's products; see :func:`~nasproxy.core.devices.products_in`.

    Returns:
        The accuracy, in [0, 1], and the mean cross-entropy.
    """
    net.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(data.images), per_pass):
        images, labels = data.batch(slice(start, start + per_pass), device)
        with float32_as(precision), products_in(precision, device):
            logits = net(images).float()
        correct += (logits.argmax(1) == labels).sum()
        loss += functional.cross_entropy(logits, labels, reduction="sum").double()
    n = len(data.images)
    return correct.item() / n, loss.item() / n
