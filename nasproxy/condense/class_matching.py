"""One matching of all classes: how classes share passes through the net, and their gradients and distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from nasproxy.condense.matching import (
    DISTANCES,
    Loss,
    class_gradients,
    compared_parameters,
    match_classes,
    matched_weights,
    net_loss,
)
from nasproxy.condense.matching_nets import first_order
from nasproxy.condense.real_batches import RealBatches
from nasproxy.config import CondenseConfig
from nasproxy.core.chunks import Piece, activation_bytes, class_chunks, even_parts, room
from nasproxy.core.distributed import add_up, num_peers, own_rank
from nasproxy.core.errors import NasproxyError
from nasproxy.core.randomness import generator
from nasproxy.data.augment import apply_augmentation, sample_siamese
from nasproxy.data.multi_formation import decode

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
            sizes = tuple(counts[piece.label - start] for piece in pieces)
            chunks.append(_chunk(tuple(pieces), sizes, start, width, device))
        groups.append(
            Group(
                rows=slice(offsets[start], offsets[start + size]),
                classes=slice(start, start + size),
                counts=tuple(seen[start : start + size]),
                labels=_labels(start, tuple(seen[start : start + size]), device),
                chunks=tuple(chunks),
            )
        )
        start += size
    return tuple(groups)


# A net of a space has groups of its own in every outer step, and moving numbers waits for a GPU: they are kept.
@lru_cache(maxsize=256)
def _chunk(pieces: tuple[Piece, ...], sizes: tuple[int, ...], start: int, width: int, device: torch.device) -> Chunk:
    """The chunk of ``pieces``, whose classes have batches of ``sizes``, in the group of classes from ``start`` on."""
    counts = torch.tensor([piece.count for piece in pieces])
    return Chunk(
        first=pieces[0].label - start,
        counts=tuple(piece.count for piece in pieces),
        labels=torch.tensor([piece.label for piece in pieces]).repeat_interleave(counts).to(device),
        shares=(1 / torch.tensor(sizes, dtype=torch.float64)).float().repeat_interleave(counts).to(device),
        places=torch.cat([torch.arange(piece.start, piece.stop) + piece.label * width for piece in pieces]).to(device),
    )


@lru_cache(maxsize=256)
def _labels(start: int, counts: tuple[int, ...], device: torch.device) -> Tensor:
    """The classes from ``start`` on, each as often as ``counts`` says."""
    return torch.arange(start, start + len(counts)).repeat_interleave(torch.tensor(counts)).to(device)


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
            gradients = class_gradients(
                net,
                images,
                chunk.labels,
                chunk.shares,
                chunk.counts,
                loss=loss,
                parameters=compared_parameters(net, config.distance),
            )
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
            parameters=compared_parameters(net, config.distance),
        )
    return distances, gradient


def matching_stream(config: CondenseConfig, outer: int, inner: int, device: torch.device) -> torch.Generator:
    """Every random number of one matching and of the net training after it, in the order of their use."""
    return generator(config.seed, "matching", outer, inner, device=device)


def layer_weights(net: nn.Module, config: CondenseConfig) -> tuple[float, ...]:
    """One weight per gradient; ones unless the settings name one for each matched layer."""
    num_layers = len(matched_weights(net))
    if config.layer_weights is None:
        parameters = compared_parameters(net, config.distance)
        return (1.0,) * (num_layers if parameters is None else len(parameters))
    if len(config.layer_weights) != num_layers or min(config.layer_weights) < 0:
        raise NasproxyError(
            f"`layer_weights` needs {num_layers} numbers ≥ 0, one per convolution and linear layer of the net, "
            f"but got {list(config.layer_weights)}."
        )
    return config.layer_weights
