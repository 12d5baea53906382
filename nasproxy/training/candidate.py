"""One candidate: a net is built, trained and measured, and what goes wrong becomes a failure with a reason."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from nasproxy.config import Recipe
from nasproxy.core.chunks import couples_images
from nasproxy.core.devices import accelerator, energy_meter
from nasproxy.core.randomness import derive_seed
from nasproxy.networks import seeded
from nasproxy.training.checkpoint import seconds_before
from nasproxy.training.fit import Curve, Passes, curve_epochs, fit, images_per_pass
from nasproxy.training.held_out import MEASURING_BATCH, accuracy_and_loss
from nasproxy.training.images import TrainingImages
from nasproxy.training.loss import compiles
from nasproxy.training.loss_curve import LossCurve
from nasproxy.training.results import FailureKind, Fit, failed_fit


def train_candidate(
    build: Callable[[], nn.Module],
    train: TrainingImages,
    held_out: TrainingImages,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    precision: str = "float32",
    checkpoint: Path | None = None,
    watched: bool = False,
    on_update: Callable[[int, int], None] | None = None,
    losses: list[torch.Tensor] | None = None,
) -> Fit:
    """Builds, trains and measures one net with one seed.

    A net that treats each image alone and runs out of memory starts again with fewer images per pass.

    Args:
        build: makes the untrained net.
        train: images ``(n, c, h, w)`` to train on.
        held_out: images to measure on.
        precision: see :class:`~nasproxy.training.fit.Passes`.
        checkpoint: see :func:`~nasproxy.training.fit.fit`; ``Fit.seconds`` include those before an interruption.
        watched: the net is also measured during the training, for ``Fit.curve``.
        on_update: see :func:`~nasproxy.training.fit.fit`.
        losses: see :func:`~nasproxy.training.fit.fit`; it is emptied first.

    Returns:
        The accuracy and loss on ``held_out``. It is a failure when the net cannot be built or run (torch raised a
        RuntimeError or a ValueError, out of memory included) and when a loss is not finite. Any other error is a bug
        and is raised.
    """
    before = seconds_before(checkpoint)
    start = time.perf_counter() - (before or 0.0)
    joules = _energy_meter(device, known=before is None)
    shape = train.images.shape[1], train.images.shape[2], train.images.shape[3]

    def elapsed() -> float:
        return time.perf_counter() - start

    def attempt(fewer: int | None) -> Fit:
        """Trains with at most ``fewer`` images per pass; None: as many as train fastest."""
        net = seeded(build, derive_seed(seed, "init")).to(device)
        (losses or []).clear()  # of an attempt that ran out of memory
        size = images_per_pass(net, shape, device) if fewer is None else fewer
        passes = Passes(size, precision, compiles(net, shape, recipe.epochs * len(train.images), device))
        measuring = min(size or MEASURING_BATCH, MEASURING_BATCH)

        def measure(net: nn.Module) -> tuple[float, float]:
            return accuracy_and_loss(net, held_out, device, per_pass=measuring, precision=precision)

        curve = Curve(lambda net: measure(net)[0], curve_epochs(recipe.epochs)) if watched else None
        loss_curve = LossCurve(recipe.epochs, device)
        last = fit(
            net,
            train,
            recipe,
            seed=seed,
            device=device,
            passes=passes,
            checkpoint=checkpoint,
            curve=curve,
            on_update=on_update,
            losses=losses,
            loss_curve=loss_curve,
        ).item()
        if not math.isfinite(last):
            return failed_fit(FailureKind.DIVERGED, f"diverged: the training loss became {last}", elapsed())
        accuracy, loss = measure(net)
        if not math.isfinite(loss):
            return failed_fit(FailureKind.DIVERGED, f"diverged: the held-out loss became {loss}", elapsed())
        points = () if curve is None else (*curve.points, (recipe.epochs, accuracy))
        return Fit(accuracy, loss, elapsed(), curve=points, joules=joules(), train_losses=loss_curve.values())

    largest = min(recipe.batch_size, len(train.images))
    try:
        return _with_fewer_images(attempt, largest, lambda: couples_images(seeded(build, 0), shape), device, elapsed)
    except (RuntimeError, ValueError) as error:
        return failure_of(error, elapsed())


def _energy_meter(device: torch.device, *, known: bool) -> Callable[[], float | None]:
    """The joules since this call; None without a meter. Those before an interruption are not known."""
    return (energy_meter(device) if known else None) or (lambda: None)


def _with_fewer_images(
    attempt: Callable[[int | None], Fit],
    largest: int,
    couples: Callable[[], bool],
    device: torch.device,
    elapsed: Callable[[], float],
) -> Fit:
    """``attempt(None)``; while it runs out of memory, again with half as many images per pass, from ``largest``."""
    fewer: int | None = None
    while True:
        try:
            return attempt(fewer)
        except torch.OutOfMemoryError as error:
            failure = failure_of(error, elapsed())  # not the error itself: it would keep the net in memory
        fewer = (fewer or largest) // 2
        if fewer < 1 or couples():
            return failure
        if (module := accelerator(device)) is not None:
            module.empty_cache()


def failure_of(error: RuntimeError | ValueError, seconds: float) -> Fit:
    """The failure of a net that torch could not build or run; its reason is the first line of the error.

    Args:
        error: what torch raised; ``OutOfMemoryError`` is a RuntimeError.
        seconds: how long the attempt took.
    """
    line = str(error).splitlines()[0] if str(error) else "no message"
    if isinstance(error, torch.OutOfMemoryError):
        return failed_fit(FailureKind.OUT_OF_MEMORY, f"out of memory: {line}", seconds)
    return failed_fit(FailureKind.NET_ERROR, f"{type(error).__name__}: {line}", seconds)
