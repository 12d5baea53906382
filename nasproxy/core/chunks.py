"""How many images go through a net at once: as many as fit the CPU's cache or the GPU's memory, by measured bytes.

On a CPU, a batch that does not fit the cache takes twice the time (benchmarks/LOG.md); on a GPU it must fit the memory.
Sums over a batch are computed piece by piece, which changes their rounding and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.core.devices import accelerator, forked, twice_differentiable

# Of the activations of one forward pass. Five ConvNets of width 32 to 256 on 32 and 64 pixels were all fastest at 24 to
# 26 MB, on a CPU with 2 MB of second-level and 32 MB of third-level cache (benchmarks/LOG.md).
CPU_BYTES = 24 * 2**20
CUDA_SHARE = 0.5  # of the free memory


@dataclass(frozen=True)
class Piece:
    """Images ``start`` to ``stop`` (excluded) of the batch of class ``label``."""

    label: int
    start: int
    stop: int

    @property
    def count(self) -> int:
        """How many images it has."""
        return self.stop - self.start


def activation_bytes(net: nn.Module, input_shape: tuple[int, int, int], *, second_order: bool = False) -> int:
    """Bytes that autograd keeps for one image, measured by one pass.

    Args:
        net: in any mode.
        input_shape: ``(c, h, w)`` of the image.
        second_order: count what the graph of the gradient keeps, too, when it is computed with ``create_graph``.
    """
    parameters = list(net.parameters())
    like = parameters[0]
    known = {tensor.untyped_storage().data_ptr() for tensor in (*parameters, *net.buffers())}
    kept: list[Tensor] = []  # kept alive, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    images = torch.zeros((1, *input_shape), dtype=like.dtype, device=like.device, requires_grad=second_order)
    label = torch.zeros(1, dtype=torch.int64, device=like.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with twice_differentiable() if second_order else nullcontext():
            loss = functional.cross_entropy(net(images), label)
        if second_order:
            own = [parameter for parameter in parameters if parameter.requires_grad]
            found = torch.autograd.grad(loss, own, create_graph=True, allow_unused=True)
            kept.extend(gradient for gradient in found if gradient is not None)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for address, size in storages.items() if address not in known)


@torch.no_grad()
def couples_images(net: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether the output of an image in training mode depends on the other images of its batch, as with batch norm.

    It is found by a trial with random images ``(c, h, w)``, so that it is right for a user's network, too. A net that
    draws random numbers outside of ``nn.Dropout`` counts as one whose images depend on each other. ``net`` is not
    changed.
    """
    probe = copy.deepcopy(net).train()
    for module in probe.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    like = next(net.parameters())
    stream = torch.Generator().manual_seed(0)
    images = torch.randn((4, *input_shape), generator=stream).to(like.device, like.dtype)
    with forked(like.device):
        try:
            together = probe(images)
            halves = torch.cat([probe(images[:2]), probe(images[2:])])
        except (RuntimeError, ValueError):  # batch norm of one value per channel
            return True
    return not torch.allclose(together, halves, rtol=1e-3, atol=1e-4)


def room(device: torch.device) -> int:
    """Bytes of activations that may exist at the same time on ``device``."""
    if (module := accelerator(device)) is not None:
        # Memory that torch has reserved and does not use is free, too.
        idle = module.memory_reserved(device) - module.memory_allocated(device)
        return int(CUDA_SHARE * (module.mem_get_info(device)[0] + idle))
    return CPU_BYTES


def even_parts(total: int, limit: int) -> list[int]:
    """Divides ``total`` into the fewest sizes of at most ``limit`` (at least 1), as equal as possible, larger first."""
    num_parts = -(-total // max(1, limit))
    size, larger = divmod(total, num_parts)
    return [size + 1] * larger + [size] * (num_parts - larger)


def class_chunks(labels: Sequence[int], counts: Sequence[int], limit: int) -> list[list[Piece]]:
    """Divides the batches of several classes into chunks.

    Whole classes share a chunk while they fit. A class that is larger than ``limit`` is cut into even parts.

    Args:
        labels: the classes.
        counts: how many images the batch of each class has.
        limit: images of a chunk at most, at least 1.

    Returns:
        The pieces of each chunk.
    """
    chunks: list[list[Piece]] = []
    current: list[Piece] = []
    for label, count in zip(labels, counts, strict=True):
        if count > limit:
            if current:
                chunks.append(current)
            current, start = [], 0
            for size in even_parts(count, limit):
                chunks.append([Piece(label, start, start + size)])
                start += size
            continue
        if current and sum(piece.count for piece in current) + count > limit:
            chunks.append(current)
            current = []
        current.append(Piece(label, 0, count))
    return chunks + ([current] if current else [])
