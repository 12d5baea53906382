"""How many images go through a net at once: as many as the CPU's cache or the GPU's memory holds, from measured bytes.

On a CPU a batch that spills out of the cache costs twice the time (benchmarks/LOG.md); on a GPU it must fit. Sums over
a batch are taken piece by piece, which changes their rounding and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Activations of one forward pass. Five ConvNets of width 32 to 256 on 32 and 64 pixels were all fastest at 24 to 26 MB,
# on a CPU with 2 MB of second-level and 32 MB of third-level cache (benchmarks/LOG.md).
CPU_BYTES = 24 * 2**20
CUDA_SHARE = 0.5  # of the free memory


@dataclass(frozen=True)
class Piece:
    """Images ``start`` to ``stop`` of one class's batch."""

    label: int
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start


def activation_bytes(net: nn.Module, input_shape: tuple[int, int, int], *, second_order: bool = False) -> int:
    """Bytes that autograd keeps for one image ``(c, h, w)`` of ``net``, measured on one pass.

    With ``second_order`` also what the gradient's own graph keeps, when it is taken with ``create_graph``.
    """
    parameters = list(net.parameters())
    like = parameters[0]
    known = {tensor.untyped_storage().data_ptr() for tensor in (*parameters, *net.buffers())}
    kept: list[Tensor] = []  # alive, so that no address is given twice

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    images = torch.zeros((1, *input_shape), dtype=like.dtype, device=like.device, requires_grad=second_order)
    label = torch.zeros(1, dtype=torch.int64, device=like.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(net(images), label)
        if second_order:
            kept.extend(torch.autograd.grad(loss, [p for p in parameters if p.requires_grad], create_graph=True))
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for address, size in storages.items() if address not in known)


@torch.no_grad()
def couples_images(net: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether an image's output in training mode depends on the other images of its batch, as batch statistics do.

    Found by trying, so that it holds for a user's network, too; a net that draws at random outside of ``nn.Dropout``
    counts as one that does. ``net`` stays as it is.
    """
    probe = copy.deepcopy(net).train()
    for module in probe.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    like = next(net.parameters())
    stream = torch.Generator().manual_seed(0)
    images = torch.randn((4, *input_shape), generator=stream).to(like.device, like.dtype)
    with torch.random.fork_rng(devices=[like.device] if like.device.type == "cuda" else []):
        try:
            together = probe(images)
            halves = torch.cat([probe(images[:2]), probe(images[2:])])
        except (RuntimeError, ValueError):  # batch norm of one value per channel
            return True
    return not torch.allclose(together, halves, rtol=1e-3, atol=1e-4)


def room(device: torch.device) -> int:
    """Bytes of activations that may be alive at once on ``device``."""
    if device.type == "cuda":
        # What torch keeps for itself and does not use is free, too.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(CUDA_SHARE * (torch.cuda.mem_get_info(device)[0] + idle))
    return CPU_BYTES


def even_parts(total: int, limit: int) -> list[int]:
    """``total`` as the fewest sizes of at most ``limit`` (at least 1), as equal as they can be, larger ones first."""
    num_parts = -(-total // max(1, limit))
    size, larger = divmod(total, num_parts)
    return [size + 1] * larger + [size] * (num_parts - larger)


def class_chunks(labels: Sequence[int], counts: Sequence[int], limit: int) -> list[list[Piece]]:
    """The batches of ``labels``, ``counts`` images each, in chunks of at most ``limit`` images (at least 1).

    Whole classes share a chunk while they fit; a class that is larger than ``limit`` is cut into even parts.
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
