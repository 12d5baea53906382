"""The training loop: one net, one set of images, one recipe. Proxy sets and full data use the same code.

Images are tensors on the device and a batch is an index; the loop reads nothing back from the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nasproxy.config import Recipe
from nasproxy.core.chunks import activation_bytes, couples_images, even_parts, room
from nasproxy.core.devices import float32_as, forked
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data.augment import apply_augmentation, mirrored_first, sample_augmentation
from nasproxy.training.checkpoint import Checkpoint, TrainingState
from nasproxy.training.images import TrainingImages
from nasproxy.training.loss import Loss, compiled_loss, summed_loss
from nasproxy.training.loss_curve import LossCurve

CURVE_POINTS = 10
CURVE_LENGTHS = (1, 3, 10, 30, 100)  # epochs that trainings of every length share
OVER_WEIGHTS = 6  # bytes of activations of a pass, for each byte of weights


@dataclass(frozen=True)
class Passes:
    """How images go through the net. It changes speed and rounding, and nothing else.

    Attributes:
        size: images that go through the net at once, for a net that treats each image alone (see
            :func:`images_per_pass`); the gradients of a batch's parts are summed. None: whole batches.
        precision: "bfloat16" takes the net's products in it; weights, updates and the loss stay float32.
        compiled: compile the net first; see :func:`~nasproxy.training.loss.compiles`.
    """

    size: int | None = None
    precision: str = "float32"
    compiled: bool = False


@dataclass
class Curve:
    """``measure`` of a net after each of ``epochs`` of its training, counted from 1; the results are in ``points``."""

    measure: Callable[[nn.Module], float]
    epochs: frozenset[int]
    points: list[tuple[int, float]] = field(default_factory=list)


def curve_epochs(epochs: int) -> frozenset[int]:
    """The epochs, from 1, after which a training of ``epochs`` is measured, without the last.

    Some are evenly spaced; ``CURVE_LENGTHS`` are those at which trainings of other lengths are measured, too.
    """
    even = {math.ceil(epochs * part / CURVE_POINTS) for part in range(1, CURVE_POINTS)}
    return frozenset(even | {length for length in CURVE_LENGTHS if length < epochs}) - {epochs}


def num_updates(recipe: Recipe, num_images: int) -> int:
    """Optimiser steps of ``recipe`` on ``num_images`` images; the last batch of an epoch may be smaller."""
    return recipe.epochs * math.ceil(num_images / recipe.batch_size)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Learning rate of update ``step`` (from 0) of ``total``."""
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "learned":
        return recipe.lrs[step % len(recipe.lrs)]
    if recipe.schedule == "step":
        return recipe.lr if step < total // 2 + 1 else recipe.lr * 0.1
    warm = max(1, round(0.3 * total))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm + 1) / (total - warm + 1)))


def images_per_pass(net: nn.Module, input_shape: tuple[int, int, int], device: torch.device) -> int | None:
    """How many images train fastest at once: as many as fit the CPU's cache.

    But their activations take at least ``OVER_WEIGHTS`` times the bytes of the weights, because every pass reads the
    weights and writes their gradients: a ResNet-18 with five images at once was three times as slow as with 64
    (benchmarks/LOG.md).

    Returns:
        The number, at least 1. None, for whole batches, on a GPU and for nets with batch statistics.
    """
    if device.type != "cpu" or couples_images(net, input_shape):
        return None
    with torch.random.fork_rng(devices=[]):  # dropout draws
        each = activation_bytes(net, input_shape)
    weights = sum(parameter.nbytes for parameter in net.parameters())
    return max(1, room(device) // each, math.ceil(OVER_WEIGHTS * weights / each))


def fit(
    net: nn.Module,
    data: TrainingImages,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    passes: Passes | None = None,
    checkpoint: Path | None = None,
    curve: Curve | None = None,
    on_update: Callable[[int, int], None] | None = None,
    losses: list[Tensor] | None = None,
    loss_curve: LossCurve | None = None,
) -> Tensor:
    """Trains ``net`` in place by ``recipe``.

    The order of images, the augmentation and dropout depend on ``seed`` alone, so that every candidate sees the same
    batches. The global generators are left as they were.

    Args:
        net: on ``device``.
        data: n images and their labels.
        passes: how the images go through the net; None: whole batches in float32.
        checkpoint: the file that keeps the state between epochs, every ``CHECKPOINT_SECONDS``. If there is a readable
            one, the training resumes from it and reaches the same weights. It must be of this very training. It is not
            removed at the end.
        curve: is filled during the training; it changes nothing in the training.
        on_update: is called with (done, total) after each update.
        losses: the mean loss of each batch is appended, a scalar on ``device`` that is not read back here. A resumed
            training appends those after the interruption alone.
        loss_curve: gets the same losses, and is kept with the checkpoint.

    Returns:
        The loss of the last batch, a scalar on ``device``.
    """
    passes = passes or Passes()
    n = len(data.images)
    batch = min(recipe.batch_size, n)
    at_once = _images_at_once(passes, batch)
    total = num_updates(recipe, n)
    order_stream = generator(seed, "order", device=data.images.device)
    augment_stream = generator(seed, "augment", device=device)
    optimizer = _optimizer(net, recipe)
    points = [] if curve is None else curve.points
    state = TrainingState(net, optimizer, (order_stream, augment_stream), points, device, loss_curve)
    keeper = Checkpoint(checkpoint, state)
    loss = torch.zeros((), device=device)
    layout = _layout(net, device)
    net.to(memory_format=layout).train()
    with (
        float32_as(passes.precision),  # not in TF32, as torch would on a GPU
        forked(device, derive_seed(seed, "dropout")),  # dropout draws from the global generator
        compiled_loss(at_once) if passes.compiled else nullcontext(summed_loss) as loss_of,
    ):
        mirrored = mirrored_first(n, augment_stream) if recipe.augmentation.startswith("alternate") else None
        for epoch in range(keeper.resume(), recipe.epochs):
            keeper.keep(epoch)
            order = _order(n, order_stream if recipe.shuffle else None, data.images.device)
            for step, index in enumerate(_batches(order, batch), start=epoch * (total // recipe.epochs)):
                images, labels = data.batch(index, device)
                images = _augmented(images, recipe, augment_stream, _mirrored_now(mirrored, index, epoch))
                images = images.contiguous(memory_format=layout)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, step, total)
                optimizer.zero_grad(set_to_none=True)
                parts = at_once if passes.compiled else even_parts(len(images), at_once)
                loss = _backward(net, images.split(parts), labels.split(parts), recipe, loss_of, passes.precision)
                optimizer.step()
                if losses is not None:
                    losses.append(loss)
                if loss_curve is not None:
                    loss_curve.add(epoch, loss)
                if on_update is not None:
                    on_update(step + 1, total)
            if curve is not None and epoch + 1 in curve.epochs:
                curve.points.append((epoch + 1, curve.measure(net)))
                net.train()
    return loss


def _layout(net: nn.Module, device: torch.device) -> torch.memory_format:
    """How images lie in memory: on a GPU with channels last, unless a norm is there that would copy them back."""
    if device.type == "cpu" or any(isinstance(module, nn.GroupNorm | nn.LayerNorm) for module in net.modules()):
        return torch.contiguous_format
    return torch.channels_last


def _images_at_once(passes: Passes, batch: int) -> int:
    at_once = min(passes.size or batch, batch)
    if passes.compiled:  # parts of one size need one program
        at_once = next(size for size in range(at_once, 0, -1) if batch % size == 0)
    return at_once


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        net.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _order(n: int, stream: torch.Generator | None, device: torch.device) -> Tensor:
    """The order of ``n`` images in an epoch, ``(n,)``: drawn from ``stream``, or as they are stored without one."""
    return torch.arange(n, device=device) if stream is None else torch.randperm(n, generator=stream, device=device)


def _batches(order: Tensor, batch: int) -> Sequence[Tensor]:
    """``order`` in batches. A last batch of one image would have no batch statistics: it shares with the one before."""
    if len(order) % batch != 1 or batch == 1 or len(order) == 1:
        return order.split(batch)
    whole, rest = order[: -batch - 1], order[-batch - 1 :]
    return (*(whole.split(batch) if len(whole) else ()), *rest.tensor_split(2))


def _mirrored_now(mirrored: Tensor | None, index: Tensor, epoch: int) -> Tensor | None:
    """Which images of a batch an alternating policy mirrors in ``epoch``: in every other epoch the opposite ones."""
    return None if mirrored is None else mirrored[index.to(mirrored.device)] ^ bool(epoch % 2)


def _augmented(images: Tensor, recipe: Recipe, stream: torch.Generator, mirrored: Tensor | None) -> Tensor:
    drawn = sample_augmentation(recipe.augmentation, images.shape, stream, mirrored=mirrored)
    return apply_augmentation(images, drawn)


def _backward(
    net: nn.Module,
    images: tuple[Tensor, ...],
    labels: tuple[Tensor, ...],
    recipe: Recipe,
    loss_of: Loss,
    precision: str,
) -> Tensor:
    """Adds the gradients of a batch, part by part, to those of ``net``; returns the batch's mean loss."""
    n = sum(map(len, images))
    loss = torch.zeros((), device=images[0].device)
    for part, answers in zip(images, labels, strict=True):
        share = loss_of(net, part, answers, recipe.label_smoothing, precision) / n
        share.backward()
        loss += share.detach()
    return loss
