"""Training one net on a set of images, and measuring it: the same code for proxy sets and for full data.

Data are tensors on the device and batching is indexing; the loop reads nothing back from the device.
"""

from __future__ import annotations

import copy
import io
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.config import Recipe
from nasproxy.core.chunks import activation_bytes, couples_images, even_parts, room
from nasproxy.core.devices import compiled_program, energy_meter, float32_as
from nasproxy.core.files import write_atomically
from nasproxy.core.randomness import derive_seed, generator
from nasproxy.data.augment import apply_augmentation, mirrored_first, sample_augmentation
from nasproxy.networks import seeded
from nasproxy.training.results import FailureKind, Fit, failed_fit

EVALUATION_BATCH = 512
CHECKPOINT_SECONDS = 60.0  # of training, at least, between two checkpoints

# Activations of a whole training, from which on a CPU compiling pays: it takes about 12 s, and gives back a part of a
# training, which takes a second or so for each GB; how much depends on processor and net (benchmarks/LOG.md).
COMPILE_FROM_BYTES = 100e9

OVER_WEIGHTS = 6  # bytes of activations of a pass, for each byte of weights


@dataclass(frozen=True)
class TrainingImages:
    """What a net trains on: ``images`` ``(n, c, h, w)``, ``labels`` ``(n,)`` or ``(n, C)``.

    ``prepare`` turns a batch of ``images`` into normalised floats, on the batch's device: full data stay uint8 until
    then. None: they are normalised floats already.
    """

    images: Tensor
    labels: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def batch(self, index: Tensor | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images and labels at ``index``, prepared, on ``device``."""
        images = self.images[index].to(device)
        return images if self.prepare is None else self.prepare(images), self.labels[index].to(device)

    def on(self, device: torch.device) -> TrainingImages:
        """The same, on a CUDA ``device`` when it takes less than a quarter of the free memory there."""
        if device.type != "cuda" or self.images.nbytes >= torch.cuda.mem_get_info(device)[0] // 4:
            return self
        return TrainingImages(self.images.to(device), self.labels.to(device), self.prepare)


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


def lowered(precision: str, device: torch.device) -> torch.autocast:
    """Takes products in bfloat16 when ``precision`` says so. For one forward pass: it keeps the weights it has seen."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


CURVE_POINTS = 10


def curve_epochs(epochs: int) -> frozenset[int]:
    """After which of so many epochs, before the last, a training is measured: evenly spaced, at most ten in all."""
    return frozenset(math.ceil(epochs * part / CURVE_POINTS) for part in range(1, CURVE_POINTS)) - {epochs}


@dataclass
class Curve:
    """``measure`` of a net after each of ``epochs`` (from 1) of its training, kept in ``points``."""

    measure: Callable[[nn.Module], float]
    epochs: frozenset[int]
    points: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class _State:
    """Everything that the rest of a training depends on: what a checkpoint holds."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    streams: tuple[torch.Generator, ...]
    device: torch.device
    curve: Curve | None

    def save(self, path: Path, epoch: int, seconds: float) -> None:
        content = {
            "epoch": epoch,
            "seconds": seconds,
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "streams": [stream.get_state() for stream in self.streams],
            "curve": [] if self.curve is None else self.curve.points,
            "dropout": torch.get_rng_state(),
            "dropout_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with suppress(OSError):  # a full disk must not end the training
            write_atomically(path, buffer.getvalue())

    def load(self, content: dict[str, Any]) -> int:
        """The epoch to go on with."""
        self.net.load_state_dict(content["net"])
        self.optimizer.load_state_dict(content["optimizer"])
        for stream, state in zip(self.streams, content["streams"], strict=True):
            stream.set_state(state)
        if self.curve is not None:
            self.curve.points[:] = content["curve"]
        torch.set_rng_state(content["dropout"])
        if content["dropout_cuda"] is not None:
            torch.cuda.set_rng_state(content["dropout_cuda"], self.device)
        return int(content["epoch"])


def read_checkpoint(path: Path | None) -> dict[str, Any] | None:
    """What a training left at ``path``, or None when nothing there can be read."""
    if path is None or not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except Exception:  # noqa: BLE001  # a damaged file makes the unpickler raise anything; all it costs is time
        return None


Loss = Callable[[nn.Module, Tensor, Tensor, float, str], Tensor]


def summed_loss(net: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float, precision: str) -> Tensor:
    """Cross-entropy of ``net`` over ``images``, summed; the net's products in ``precision``."""
    with lowered(precision, images.device):
        logits = net(images)
    return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing, reduction="sum")


def compiles(net: nn.Module, input_shape: tuple[int, int, int], num_images: int, device: torch.device) -> bool:
    """Whether to compile ``net`` before it trains on ``num_images`` images in all.

    It depends on counts and the processor alone, so that the same training is done alike each time on one machine. With
    vectors of 256 bits compiled code gains a tenth on wide nets and loses a quarter on narrow ones (benchmarks/LOG.md).
    Not on a GPU, where nothing has been measured yet.
    """
    if device.type != "cpu" or shutil.which("c++") is None or "AVX512" not in torch.backends.cpu.get_cpu_capability():
        return False
    probe = copy.deepcopy(net).eval()  # one image is too few for batch statistics
    return activation_bytes(probe, input_shape) * num_images >= COMPILE_FROM_BYTES


@contextmanager
def _compiled(size: int) -> Iterator[Loss]:
    """:func:`summed_loss` compiled for parts of ``size`` images; other sizes, and what cannot be compiled, run as is.

    Several nets can be trained so one after the other, but not at once.
    """
    from torch import _dynamo

    _dynamo.reset()  # what was compiled for other nets counts towards a limit
    program = compiled_program(summed_loss)

    def loss(net: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float, precision: str) -> Tensor:
        chosen = program if len(images) == size else summed_loss
        return chosen(net, images, labels, label_smoothing, precision)

    with _dynamo.config.patch(suppress_errors=True):
        yield loss


def fit(
    net: nn.Module,
    data: TrainingImages,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    per_pass: int | None = None,
    precision: str = "float32",
    compiled: bool = False,
    checkpoint: Path | None = None,
    curve: Curve | None = None,
    on_update: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Trains ``net`` (on ``device``) in place by ``recipe``; returns the last batch's loss, still on the device.

    The order of images, the augmentation and dropout depend on ``seed`` alone, so every candidate sees the same
    batches. ``on_update(done, total)`` is called after each update. The global generators are left as they were.

    Args:
        per_pass: images that go through the net at once, for a net that treats them one by one; the gradients of a
            batch's parts are summed, which changes their rounding. None: whole batches.
        precision: "bfloat16" takes products in it; weights, updates and the loss stay float32.
        compiled: compile the net first, which changes rounding; see :func:`compiles`.
        checkpoint: where the state is kept after an epoch, every ``CHECKPOINT_SECONDS``; with a readable one there the
            training goes on from it, to the same weights. It must be of this very training. It is left there at the
            end.
        curve: filled meanwhile; it changes nothing in the training.
    """
    n = len(data.images)
    batch = min(recipe.batch_size, n)
    at_once = min(per_pass or batch, batch)
    if compiled:  # parts of one size need one program
        at_once = next(size for size in range(at_once, 0, -1) if batch % size == 0)
    total = num_updates(recipe, n)
    per_epoch = total // recipe.epochs
    order_stream = generator(seed, "order", device=data.images.device)
    augment_stream = generator(seed, "augment", device=device)
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    state = _State(net, optimizer, (order_stream, augment_stream), device, curve)
    loss = torch.zeros((), device=device)
    cuda = [device] if device.type == "cuda" else []
    layout = torch.channels_last if cuda else torch.contiguous_format
    net.to(memory_format=layout).train()
    with (
        float32_as(precision),  # not in TF32, as torch would on a GPU
        torch.random.fork_rng(devices=cuda),  # dropout draws from the global generator
        _compiled(at_once) if compiled else nullcontext(summed_loss) as loss_of,
    ):
        torch.manual_seed(derive_seed(seed, "dropout"))
        first = mirrored_first(n, augment_stream) if recipe.augmentation.startswith("alternate") else None
        before = read_checkpoint(checkpoint)
        start = 0 if before is None else state.load(before)
        began = kept = time.monotonic() - (0.0 if before is None else before["seconds"])
        for epoch in range(start, recipe.epochs):
            if checkpoint is not None and time.monotonic() - kept > CHECKPOINT_SECONDS:
                kept = time.monotonic()
                state.save(checkpoint, epoch, kept - began)
            if recipe.shuffle:
                order = torch.randperm(n, generator=order_stream, device=data.images.device)
            else:
                order = torch.arange(n, device=data.images.device)
            for step, index in enumerate(order.split(batch), start=epoch * per_epoch):
                images, labels = data.batch(index, device)
                mirrored = None if first is None else first[index.to(device)] ^ bool(epoch % 2)
                drawn = sample_augmentation(recipe.augmentation, images.shape, augment_stream, mirrored=mirrored)
                images = apply_augmentation(images, drawn).contiguous(memory_format=layout)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, step, total)
                optimizer.zero_grad(set_to_none=True)
                loss = torch.zeros((), device=device)
                parts: int | list[int] = at_once if compiled else even_parts(len(images), at_once)
                for some, answers in zip(images.split(parts), labels.split(parts), strict=True):
                    part = loss_of(net, some, answers, recipe.label_smoothing, precision) / len(images)
                    part.backward()
                    loss += part.detach()
                optimizer.step()
                if on_update is not None:
                    on_update(step + 1, total)
            if curve is not None and epoch + 1 in curve.epochs:
                curve.points.append((epoch + 1, curve.measure(net)))
                net.train()
    return loss


@torch.no_grad()
def evaluate(
    net: nn.Module,
    data: TrainingImages,
    device: torch.device,
    *,
    per_pass: int = EVALUATION_BATCH,
    precision: str = "float32",
) -> tuple[float, float]:
    """``(accuracy, loss)`` of ``net`` in evaluation mode: accuracy in [0, 1], loss the mean cross-entropy.

    ``per_pass`` images go through the net at once.
    """
    net.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for start in range(0, len(data.images), per_pass):
        images, labels = data.batch(slice(start, start + per_pass), device)
        with float32_as(precision), lowered(precision, device):
            logits = net(images).float()
        correct += (logits.argmax(1) == labels).sum()
        loss += functional.cross_entropy(logits, labels, reduction="sum").double()
    n = len(data.images)
    return correct.item() / n, loss.item() / n


def images_per_pass(net: nn.Module, input_shape: tuple[int, int, int], device: torch.device) -> int | None:
    """Images that train fastest at once: as many as the CPU's cache holds; None, all, on a GPU or for batch norms.

    But at least so many that their activations are ``OVER_WEIGHTS`` times the weights, which every pass reads and whose
    gradients it writes: five images at once made a ResNet-18 three times as slow as 64 (benchmarks/LOG.md).
    """
    if device.type != "cpu" or couples_images(net, input_shape):
        return None
    with torch.random.fork_rng(devices=[]):  # dropout draws
        each = activation_bytes(net, input_shape)
    weights = sum(parameter.nbytes for parameter in net.parameters())
    return max(1, room(device) // each, math.ceil(OVER_WEIGHTS * weights / each))


def failure_of(error: RuntimeError | ValueError, seconds: float) -> Fit:
    """The failure of a net that torch could not build or run; the reason is the first line of the error.

    Args:
        error: what torch raised; ``OutOfMemoryError`` is a RuntimeError.
        seconds: how long the attempt took.
    """
    line = str(error).splitlines()[0] if str(error) else "no message"
    if isinstance(error, torch.OutOfMemoryError):
        return failed_fit(FailureKind.OUT_OF_MEMORY, f"out of memory: {line}", seconds)
    return failed_fit(FailureKind.NET_ERROR, f"{type(error).__name__}: {line}", seconds)


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
) -> Fit:
    """Builds, trains and measures one net with one seed; what goes wrong comes back as ``Fit.failure``.

    Failures are a net that cannot be built or run (any RuntimeError or ValueError of torch, out of memory included)
    and a loss that is not finite. Anything else is a bug and is raised. A net that treats images one by one and runs
    out of memory starts again with fewer images per pass.

    Args:
        precision: as in :func:`fit`.
        checkpoint: as in :func:`fit`; ``Fit.seconds`` count what came before it, too.
        watched: the net is also measured on the way, for ``Fit.curve``.
    """
    before = read_checkpoint(checkpoint)
    start = time.perf_counter() - (0.0 if before is None else before["seconds"])
    joules = None if before is not None else energy_meter(device)  # nobody knows what the part before took
    shape = train.images.shape[1], train.images.shape[2], train.images.shape[3]

    def elapsed() -> float:
        return time.perf_counter() - start

    def measured() -> Fit:
        net = seeded(build, derive_seed(seed, "init")).to(device)
        per_pass = images_per_pass(net, shape, device) if fewer is None else fewer
        num_images = recipe.epochs * len(train.images)
        size = min(per_pass or EVALUATION_BATCH, EVALUATION_BATCH)

        def accuracy_now(net: nn.Module) -> float:
            return evaluate(net, held_out, device, per_pass=size, precision=precision)[0]

        curve = Curve(accuracy_now, curve_epochs(recipe.epochs)) if watched else None
        last = fit(
            net,
            train,
            recipe,
            seed=seed,
            device=device,
            per_pass=per_pass,
            precision=precision,
            compiled=compiles(net, shape, num_images, device),
            checkpoint=checkpoint,
            curve=curve,
            on_update=on_update,
        )
        if not math.isfinite(last.item()):
            return failed_fit(FailureKind.DIVERGED, f"diverged: the training loss became {last.item()}", elapsed())
        accuracy, loss = evaluate(net, held_out, device, per_pass=size, precision=precision)
        if not math.isfinite(loss):
            return failed_fit(FailureKind.DIVERGED, f"diverged: the held-out loss became {loss}", elapsed())
        points = () if curve is None else (*curve.points, (recipe.epochs, accuracy))
        taken = None if joules is None else joules()
        return Fit(accuracy, loss, elapsed(), curve=points, joules=taken)

    fewer: int | None = None
    try:
        while True:
            try:
                return measured()
            except torch.OutOfMemoryError as error:
                failure = failure_of(error, elapsed())
            fewer = (fewer or min(recipe.batch_size, len(train.images))) // 2
            if fewer < 1 or couples_images(seeded(build, 0), shape):
                return failure
            if device.type == "cuda":
                torch.cuda.empty_cache()
    except (RuntimeError, ValueError) as error:
        return failure_of(error, elapsed())
