"""Dataset condensation by gradient matching: the algorithm of [DC], one line here for one line there.

For K freshly initialised nets, T times: match every class's gradient on the synthetic images with its gradient on a
fresh real batch, take one step on the images, then train the net for ς_θ epochs on the synthetic set.

All random numbers of a matching come from one stream named by (k, t), on the device, so a checkpoint holds no generator
state and a resumed build is bit-identical to an uninterrupted one on the CPU. Nothing is read back from the device but
the distance, for the progress bar, and checkpoints.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, algorithm 1. [DSA] Zhao,
Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nasproxy.augment import apply_augmentation, sample_siamese
from nasproxy.chunks import activation_bytes, class_chunks, even_parts, room
from nasproxy.condense.checkpoint import Position, checkpoint_key, load_checkpoint, save_checkpoint
from nasproxy.condense.contract import Condensed, Progress, Snapshot
from nasproxy.condense.faster import EarlyNets, perturb, representative_images
from nasproxy.condense.nets import (
    batch_norms,
    build_net,
    compiled_loss,
    first_order,
    freeze_batch_norm,
    train_net,
    train_net_on_real,
)
from nasproxy.condense.random_images import draw_per_class
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.datasets import Dataset
from nasproxy.devices import cpu_threads, float32_as
from nasproxy.errors import NasproxyError
from nasproxy.formation import decode, encode
from nasproxy.matching import (
    DISTANCES,
    Loss,
    class_gradients,
    match_classes,
    matched_weights,
    net_loss,
)
from nasproxy.peers import add_up, num_peers, own_rank
from nasproxy.randomness import derive_seed, generator

CHECKPOINT_SECONDS = 120.0
PROGRESS_SECONDS = 0.5  # between read-backs from a CUDA device
NUM_SNAPSHOTS = 10


# ------------------------------------------------------------------------------------------------------- one matching


@dataclass(frozen=True)
class Chunk:
    """Real images that go through the net together: ``counts`` of the classes from ``first`` on (in their group)."""

    first: int
    counts: tuple[int, ...]
    labels: Tensor  # (n,)
    shares: Tensor  # (n,)
    places: Tensor  # (n,) in the flattened draw (C · batch)


@dataclass(frozen=True)
class Group:
    """Classes whose synthetic images go through the net together: rows ``rows`` of the set."""

    rows: slice
    classes: slice
    counts: tuple[int, ...]  # of the images that the net sees
    labels: Tensor  # (n,) of these
    chunks: tuple[Chunk, ...]


def plan_groups(net: nn.Module, real: RealBatches, config: CondenseConfig, device: torch.device) -> tuple[Group, ...]:
    """How the classes are spread over passes through ``net``, by the bytes that a pass needs and the device has."""
    shape = tuple(real.images.shape[1:])
    space = room(device)
    per_real = activation_bytes(net, shape)  # type: ignore[arg-type]
    # A class brings the graph of its gradient, and its gradient four times: both sides and the distance's two factors.
    own = config.counts(len(real.sizes))
    offsets = [sum(own[:label]) for label in range(len(own) + 1)]
    seen = [count * config.formation**2 for count in own]
    per_class = max(seen) * activation_bytes(net, shape, second_order=True)  # type: ignore[arg-type]
    per_class += 4 * sum(weight.nbytes for weight in matched_weights(net))
    num_classes = len(real.sizes)
    width = min(config.batch_real, max(real.sizes))
    groups, start = [], 0
    for size in even_parts(num_classes, min(space // per_class, -(-num_classes // num_peers()))):
        labels = range(start, start + size)
        chunks = []
        counts = [real.count(label, width) for label in labels]
        for pieces in class_chunks(labels, counts, space // per_real):
            chunks.append(
                Chunk(
                    first=pieces[0].label - start,
                    counts=tuple(piece.count for piece in pieces),
                    labels=torch.tensor([piece.label for piece in pieces for _ in range(piece.count)], device=device),
                    shares=torch.tensor(
                        [1 / counts[piece.label - start] for piece in pieces for _ in range(piece.count)], device=device
                    ),
                    places=torch.cat(
                        [torch.arange(piece.start, piece.stop) + piece.label * width for piece in pieces]
                    ).to(device),
                )
            )
        groups.append(
            Group(
                rows=slice(offsets[start], offsets[start + size]),
                classes=slice(start, start + size),
                counts=tuple(seen[start : start + size]),
                labels=torch.arange(start, start + size, device=device).repeat_interleave(
                    torch.tensor(seen[start : start + size], device=device)
                ),
                chunks=tuple(chunks),
            )
        )
        start += size
    return tuple(groups)


View = Callable[[Tensor, Tensor], Tensor]  # what the net sees of images (n, c, h, w) of classes (n,)


def real_gradients(
    net: nn.Module,
    group: Group,
    drawn: Tensor,
    real: RealBatches,
    *,
    config: CondenseConfig,
    view: View,
    loss: Loss,
) -> list[Tensor]:
    """∇_θ L(B_c, θ) of every class of ``group`` for the real images ``drawn`` ``(C, batch)``, chunk by chunk."""
    places = drawn.flatten()
    sums: list[Tensor] = []
    for chunk in group.chunks:
        images = view(real.take(places[chunk.places]), chunk.labels)
        with first_order(config, images.device):
            gradients = class_gradients(net, images, chunk.labels, chunk.shares, chunk.counts, loss=loss)
        if len(chunk.counts) == len(group.counts) and len(group.chunks) == 1:
            return list(gradients)
        if not sums:
            sums = [gradient.new_zeros((len(group.counts), *gradient.shape[1:])) for gradient in gradients]
        for total, gradient in zip(sums, gradients, strict=True):
            total[chunk.first : chunk.first + len(chunk.counts)].add_(gradient)
    return sums


def match(
    net: nn.Module,
    images: Tensor,
    groups: Sequence[Group],
    real: RealBatches,
    config: CondenseConfig,
    stream: torch.Generator,
    *,
    chosen: Tensor | None = None,
    loss: Loss = net_loss,
) -> tuple[Tensor, Tensor]:
    """One matching of all classes: with the real images ``chosen`` ``(C, batch)``, or with fresh random ones.

    With several processes each matches its share of the groups, and all of them get all of the result.

    Returns:
        The distances ``(C,)``, and the image gradient ``(n, c, h, w)``.
    """
    own = groups[own_rank() :: num_peers()]
    distances, gradient = match_groups(net, images, own, real, config, stream, chosen=chosen, loss=loss)
    return add_up(distances), add_up(gradient)


def match_groups(
    net: nn.Module,
    images: Tensor,
    groups: Sequence[Group],
    real: RealBatches,
    config: CondenseConfig,
    stream: torch.Generator,
    *,
    chosen: Tensor | None = None,
    loss: Loss = net_loss,
) -> tuple[Tensor, Tensor]:
    """:func:`match` for ``groups`` alone, in this process: zero for all other classes."""
    drawn = real.draw(config.batch_real, stream) if chosen is None else chosen
    _, channels, height, width = images.shape
    augmentation = sample_siamese(config.augmentation, len(real.sizes), (channels, height, width), stream)

    def view(batch: Tensor, labels: Tensor) -> Tensor:
        return batch if augmentation is None else apply_augmentation(batch, augmentation.take(labels))

    def view_stored(stored: Tensor, labels: Tensor) -> Tensor:
        return view(decode(stored, config.formation), labels)

    distances = torch.zeros(len(real.sizes), device=images.device)
    gradient = torch.zeros_like(images)
    for group in groups:
        distances[group.classes], gradient[group.rows] = match_classes(
            net,
            images[group.rows],
            group.labels,
            group.counts,
            real_gradients(net, group, drawn, real, config=config, view=view, loss=loss),
            distance=DISTANCES[config.distance],
            layer_weights=layer_weights(net, config),
            view=partial(view_stored, labels=group.labels),
        )
    return distances, gradient


def layer_weights(net: nn.Module, config: CondenseConfig) -> tuple[float, ...]:
    """One weight per matched layer; ones unless the settings name them."""
    num_layers = len(matched_weights(net))
    if config.layer_weights is None:
        return (1.0,) * num_layers
    if len(config.layer_weights) != num_layers or min(config.layer_weights) < 0:
        raise NasproxyError(
            f"`layer_weights` needs {num_layers} numbers ≥ 0, one per convolution and linear layer of the net, "
            f"but got {list(config.layer_weights)}."
        )
    return config.layer_weights


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


def matching_stream(config: CondenseConfig, outer: int, inner: int, device: torch.device) -> torch.Generator:
    """Every random number of one matching and of the net training after it, in the order of their use."""
    return generator(config.seed, "matching", outer, inner, device=device)


def gradient_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> Condensed:
    """Learns ``ipc`` images per class whose training gradients resemble those of the real classes ([DC], algorithm 1).

    Args:
        checkpoint: written every two minutes and at the end, and continued when it exists.
        progress: called with (matchings done, matchings in total, note with the current distance).
        on_snapshot: called with (outer steps done, images ``(n, c, h, w)`` normalised) ten times over the run.

    Returns:
        The set, with hard labels.

    Raises:
        NasproxyError: for settings that do not fit the data, a foreign checkpoint, or a distance that is not finite.
    """
    started = time.perf_counter()
    config = config.for_data(dataset.input_shape, flip=dataset.flip)
    real = RealBatches(dataset, device)
    inner_steps, _ = config.loops
    key = checkpoint_key(dataset, config)
    fresh = partial(build_net, config, dataset, device=device)
    early = EarlyNets(config.pool, config.pool_epochs, fresh, real, config.seed)

    images = initial_images(dataset, config).to(device)
    velocity = torch.zeros_like(images)
    labels = initial_labels(dataset, config).to(device)
    seen_labels = labels.repeat_interleave(config.formation**2)
    position = Position()
    net_state: dict[str, Tensor] = {}
    chosen: Tensor | None = None
    if checkpoint is not None and checkpoint.exists():
        position, saved = load_checkpoint(checkpoint, key)
        # Copied into memory of their own: where a tensor begins decides how a sum over it is ordered, so its last bits.
        images, velocity = (torch.empty_like(images).copy_(saved.pop(name)) for name in ("images", "velocity"))
        if "chosen" in saved:
            chosen = saved.pop("chosen").to(device)
        net_state = {name.removeprefix("net."): tensor for name, tensor in saved.items()}
    last_checkpoint = last_progress = time.perf_counter()
    loss = compiled_loss() if config.compile else net_loss
    norm_places = real.valid(config.batch_norm_images)
    snapshot_every = max(1, config.outer_steps // NUM_SNAPSHOTS)
    total_steps = config.outer_steps * inner_steps

    with float32_as(config.precision or "float32"), cpu_threads(config.threads):
        for outer in range(position.outer, config.outer_steps):
            net = early.draw(outer) if config.pool else fresh(outer)
            if config.perturbation:
                perturb(net, config.perturbation, generator(config.seed, "perturbation", outer, device=device))
            if outer == position.outer or config.match_space is not None:
                groups = plan_groups(net, real, config, device)
                at_once = room(device) // activation_bytes(net, dataset.input_shape)
            start_inner = position.inner if outer == position.outer else 0
            if start_inner > 0:
                net.load_state_dict(net_state)
            for inner in range(start_inner, inner_steps):
                stream = matching_stream(config, outer, inner, device)
                if batch_norms(net):
                    drawn = real.draw(config.batch_norm_images, stream)
                    freeze_batch_norm(net, real.take(drawn.flatten()[norm_places]))
                if config.real_choice == "kmeans" and inner % config.choice_interval == 0:
                    seed = derive_seed(config.seed, "representatives", outer, inner)
                    chosen = representative_images(net, real, config.batch_real, seed)
                distances, gradient = match(net, images, groups, real, config, stream, chosen=chosen, loss=loss)
                velocity.mul_(config.momentum_img).add_(gradient)
                images.sub_(velocity, alpha=config.image_lr)
                if inner < inner_steps - 1:  # after the last matching the net is thrown away
                    if config.net_data == "real":
                        train_net_on_real(net, real, config, stream, at_once=at_once, loss=loss)
                    else:
                        seen = decode(images, config.formation)
                        train_net(net, seen, seen_labels, config, stream, at_once=at_once, loss=loss)

                done = outer * inner_steps + inner + 1
                now = time.perf_counter()
                if device.type == "cpu" or now - last_progress >= PROGRESS_SECONDS or done == total_steps:
                    last_progress = now
                    current = distances.sum().item()
                    if not np.isfinite(current):
                        raise NasproxyError(
                            f"The matching distance became {current} at outer step {outer + 1}, matching {inner + 1}: "
                            f"use a smaller --lr-img (now {config.image_lr:g})."
                        )
                    if progress is not None and own_rank() == 0:
                        progress(done, total_steps, f"distance {current:.3f}")
                if (
                    checkpoint is not None
                    and own_rank() == 0
                    and (now - last_checkpoint >= CHECKPOINT_SECONDS or done == total_steps)
                ):
                    last_checkpoint = now
                    reached = (outer, inner + 1) if inner + 1 < inner_steps else (outer + 1, 0)
                    tensors = {"images": images, "velocity": velocity}
                    if reached[1] > 0:
                        tensors |= {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
                        if chosen is not None:
                            tensors["chosen"] = chosen
                    seconds = position.seconds + now - started
                    save_checkpoint(checkpoint, key, config, Position(*reached, seconds), tensors)
            if (
                on_snapshot is not None
                and own_rank() == 0
                and ((outer + 1) % snapshot_every == 0 or outer + 1 == config.outer_steps)
            ):
                on_snapshot(outer + 1, images.clone().cpu())
    return Condensed(images.cpu(), labels.cpu(), position.seconds + time.perf_counter() - started)


def siamese_matching(
    dataset: Dataset,
    config: CondenseConfig,
    *,
    device: torch.device,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    on_snapshot: Snapshot | None = None,
) -> Condensed:
    """Gradient matching under one augmentation for a class's real and synthetic images ([DSA]).

    The algorithm is :func:`gradient_matching`; the name stands for other settings (``METHOD_SETTINGS``).
    """
    return gradient_matching(
        dataset, config, device=device, checkpoint=checkpoint, progress=progress, on_snapshot=on_snapshot
    )
