"""The loss of a batch, as it is or compiled, and when compiling pays."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasproxy.core.chunks import activation_bytes
from nasproxy.core.devices import compiled_program, products_in

# Bytes of activations of a whole training, from which on compiling pays on a CPU. Compiling takes about 12 s and saves
# about a second for each GB; how much depends on the processor and the net (benchmarks/LOG.md).
COMPILE_FROM_BYTES = 100e9

Loss = Callable[[nn.Module, Tensor, Tensor, float, str], Tensor]


def summed_loss(net: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float, precision: str) -> Tensor:
    """The cross-entropy of ``net``, summed over ``images``.

    Args:
        net: gives logits ``(n, C)``.
        images: ``(n, c, h, w)``, normalised.
        labels: classes ``(n,)``, or probabilities ``(n, C)``.
        label_smoothing: share of the label that is spread evenly over the classes, in [0, 1].
        precision: of the net's products; see :func:`~nasproxy.core.devices.products_in`.
    """
    with products_in(precision, images.device):
        logits = net(images)
    return functional.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing, reduction="sum")


def compiles(net: nn.Module, input_shape: tuple[int, int, int], num_images: int, device: torch.device) -> bool:
    """Whether to compile ``net`` before it trains on ``num_images`` images, counted once per epoch.

    The answer depends on counts and the processor alone, so that a training is repeated to the same bits on one
    machine. With vectors of 256 bits, compiled code is a tenth faster on wide nets and a quarter slower on narrow ones
    (benchmarks/LOG.md). On a GPU the answer is no, because nothing has been measured there.
    """
    if device.type != "cpu" or shutil.which("c++") is None or "AVX512" not in torch.backends.cpu.get_cpu_capability():
        return False
    probe = copy.deepcopy(net).eval()  # one image is too few for batch statistics
    return activation_bytes(probe, input_shape) * num_images >= COMPILE_FROM_BYTES


@contextmanager
def compiled_loss(size: int) -> Iterator[Loss]:
    """:func:`summed_loss`, compiled for parts of ``size`` images during a ``with`` block.

    Parts of another size are not compiled, and neither are nets that torch cannot compile. Several nets may use it one
    after the other, but not at the same time.
    """
    from torch import _dynamo

    _dynamo.reset()  # what was compiled for other nets counts towards a limit
    program = compiled_program(summed_loss)

    def loss(net: nn.Module, images: Tensor, labels: Tensor, label_smoothing: float, precision: str) -> Tensor:
        chosen = program if len(images) == size else summed_loss
        return chosen(net, images, labels, label_smoothing, precision)

    with _dynamo.config.patch(suppress_errors=True):
        yield loss
