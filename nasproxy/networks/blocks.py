"""The parts of network families: named activations, norms and poolings, checks, and seeded initialisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from nasproxy.core.devices import forked
from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.networks.pooling import AveragePool

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
}

# Each takes the shape (c, h, w) of the maps. Instance norm is a group norm with one channel per group, as in the
# reference code: unlike nn.InstanceNorm2d it also accepts 1 × 1 maps in training mode.
NORMS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "none": lambda c, h, w: nn.Identity(),
    "batch": lambda c, h, w: nn.BatchNorm2d(c),
    "layer": lambda c, h, w: nn.LayerNorm([c, h, w]),
    "instance": lambda c, h, w: nn.GroupNorm(c, c),
    "group": lambda c, h, w: nn.GroupNorm(4, c),
}

POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2),
    "avg": AveragePool,
}


T = TypeVar("T")


def choice(kind: str, name: str, table: dict[str, T]) -> T:
    """``table[name]``.

    Raises:
        NasproxyError: for an unknown name; ``kind`` says of what.
    """
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]


def positive(**values: int) -> None:
    """Checks that each of the named values is at least 1.

    Raises:
        NasproxyError: for the first that is not.
    """
    for name, value in values.items():
        if value < 1:
            raise NasproxyError(f"`{name} >= 1` must hold, but got {name}={value}.")


def at_least_one_pixel(channels: int, height: int, width: int) -> tuple[int, int, int]:
    """``(channels, height, width)``, if feature maps of that shape have a pixel.

    Raises:
        NasproxyError: if they have none.
    """
    if min(height, width) < 1:
        raise NasproxyError(
            "Feature maps must stay at least 1×1, but these images are too small for the net: use larger images, "
            "or a convnet of small depth."
        )
    return channels, height, width


def make_norm(norm: str, channels: int, height: int, width: int) -> nn.Module:
    """The norm called ``norm``, for maps ``(channels, height, width)``.

    Raises:
        NasproxyError: for an unknown name, or channels that the 4 groups of "group" do not divide.
    """
    if norm == "group" and channels % 4:
        raise NasproxyError(
            f"Channels must be divisible by the 4 groups of norm='group', but got {channels} channels: "
            "use another width."
        )
    return choice("norm", norm, NORMS)(channels, height, width)


def padded(input_shape: tuple[int, int, int], padding: int) -> int:
    """The padding of the first convolution: 28 × 28 images become 32 × 32, as in the reference code."""
    return padding + 2 if input_shape[1:] == (28, 28) else padding


def seeded(build: Callable[[], nn.Module], seed: int, device: torch.device | None = None) -> nn.Module:
    """Builds a net whose initialisation is drawn from ``seed``. The global generators are left as they were.

    Args:
        build: makes the net.
        device: where it is created and initialised; None: where ``build`` creates it.
    """
    with forked(device or torch.device("cpu"), seed):
        if device is None:
            return build()
        with device:
            return build()


def num_params(net: nn.Module) -> int:
    """The number of trainable parameters of ``net``."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
