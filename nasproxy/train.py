"""Training one net on a set of images, and measuring it: the same code for proxy sets and for full data.

Data are tensors on the device and batching is indexing; the loop reads nothing back from the device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.augment import apply_augmentation, sample_augmentation
from nasproxy.config import Recipe
from nasproxy.networks import seeded
from nasproxy.randomness import derive_seed, generator

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Fit:
    """What one training gave: ``accuracy`` in [0, 1] and mean cross-entropy ``loss`` on held-out images.

    A failure is a reason in words; accuracy and loss are then None, never a sentinel number.
    """

    accuracy: float | None
    loss: float | None
    seconds: float
    failure: str | None = None


@dataclass(frozen=True)
class TrainingImages:
    """What a net trains on: ``images`` ``(n, c, h, w)``, ``labels`` ``(n,)`` or ``(n, C)``.

    ``prepare`` turns a batch of ``images`` into normalised floats on the device: full data stay uint8 until then.
    """

    images: Tensor
    labels: Tensor
    prepare: Callable[[Tensor], Tensor]


def num_updates(recipe: Recipe, num_images: int) -> int:
    """Optimiser steps of ``recipe`` on ``num_images`` images; the last batch of an epoch may be smaller."""
    return recipe.epochs * math.ceil(num_images / recipe.batch_size)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Learning rate of update ``step`` (from 0) of ``total``."""
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return recipe.lr if step < total // 2 + 1 else recipe.lr * 0.1
    warm = max(1, round(0.3 * total))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm + 1) / (total - warm + 1)))


def fit(
    net: nn.Module,
    data: TrainingImages,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    on_update: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Trains ``net`` (on ``device``) in place by ``recipe``; returns the last batch's loss, still on the device.

    The order of images, the augmentation and dropout depend on ``seed`` alone, so every candidate sees the same
    batches. ``on_update(done, total)`` is called after each update. The global generators are left as they were.
    """
    n = len(data.images)
    batch = min(recipe.batch_size, n)
    total = num_updates(recipe, n)
    order_stream = generator(seed, "order", device=data.images.device)
    augment_stream = generator(seed, "augment", device=device)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    loss = torch.zeros((), device=device)
    step = 0
    cuda = [device] if device.type == "cuda" else []
    net.train()
    with torch.random.fork_rng(devices=cuda):  # dropout draws from the global generator
        torch.manual_seed(derive_seed(seed, "dropout"))
        for _ in range(recipe.epochs):
            if recipe.shuffle:
                order = torch.randperm(n, generator=order_stream, device=data.images.device)
            else:
                order = torch.arange(n, device=data.images.device)
            for index in order.split(batch):
                images = data.prepare(data.images[index])
                images = apply_augmentation(
                    images, sample_augmentation(recipe.augmentation, images.shape, augment_stream)
                )
                loss = functional.cross_entropy(
                    net(images), data.labels[index].to(device), label_smoothing=recipe.label_smoothing
                )
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, step, total)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
                if on_update is not None:
                    on_update(step, total)
    return loss.detach()


@torch.no_grad()
def evaluate(net: nn.Module, data: TrainingImages, device: torch.device) -> tuple[float, float]:
    """``(accuracy, loss)`` of ``net`` in evaluation mode: accuracy in [0, 1], loss the mean cross-entropy."""
    net.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(data.images), EVALUATION_BATCH):
        labels = data.labels[start : start + EVALUATION_BATCH].to(device)
        logits = net(data.prepare(data.images[start : start + EVALUATION_BATCH]))
        correct += (logits.argmax(1) == labels).sum()
        loss += functional.cross_entropy(logits, labels, reduction="sum").double()
    n = len(data.images)
    return correct.item() / n, loss.item() / n


def train_candidate(
    build: Callable[[], nn.Module],
    train: TrainingImages,
    held_out: TrainingImages,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    on_update: Callable[[int, int], None] | None = None,
) -> Fit:
    """Builds, trains and measures one net with one seed; what goes wrong comes back as ``Fit.failure``.

    Failures are a net that cannot be built or run (any RuntimeError or ValueError of torch, out of memory included)
    and a loss that is not finite. Anything else is a bug and is raised.
    """
    start = time.perf_counter()

    def failed(reason: str) -> Fit:
        return Fit(None, None, time.perf_counter() - start, reason)

    try:
        net = seeded(build, derive_seed(seed, "init")).to(device)
        last = fit(net, train, recipe, seed=seed, device=device, on_update=on_update)
        if not math.isfinite(last.item()):
            return failed(f"diverged: the training loss became {last.item()}")
        accuracy, loss = evaluate(net, held_out, device)
    except torch.OutOfMemoryError as error:
        return failed(f"out of memory: {str(error).splitlines()[0]}")
    except (RuntimeError, ValueError) as error:
        return failed(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
    if not math.isfinite(loss):
        return failed(f"diverged: the held-out loss became {loss}")
    return Fit(accuracy, loss, time.perf_counter() - start)
