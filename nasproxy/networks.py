"""Network families: one function each, flat arguments in, an ``nn.Module`` out.

Every family has the signature ``family(input_shape, num_classes, **options)``, where ``input_shape`` is ``(c, h, w)``
in pixels and every option has a default. A family raises :class:`~nasproxy.errors.NasproxyError` when the options
cannot be built for that input. To add one, write a function and name it in ``NETWORKS`` at the bottom of the file.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, section 4 and
appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from nasproxy.errors import NasproxyError, unknown
from nasproxy.pooling import AveragePool

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
}

# Each takes the shape (c, h, w) that it normalises. Instance norm is a group norm with one channel per group, as in
# the reference: unlike nn.InstanceNorm2d it also runs on 1 × 1 maps in training mode.
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


def _choice(kind: str, name: str, table: dict[str, T]) -> T:
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]


def convnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 3,
    activation: str = "relu",
    norm: str = "instance",
    pooling: str = "avg",
    dropout: float = 0.0,
) -> nn.Module:
    """``depth`` blocks of [conv 3×3, ``width`` channels → norm → activation → 2×2 pooling], then one linear layer.

    The defaults are the matching net of [DC]; the options span its 720-architecture grid. Inputs of 28 × 28 are padded
    to 32 × 32 by the first convolution, as there. ``dropout`` acts on the flattened features.

    Raises:
        NasproxyError: for an unknown option, ``width`` not divisible by the 4 groups of ``norm="group"``, or a map
            pooled below 1 × 1.
    """
    channels, height, width_px = input_shape
    for name, value in (("width", width), ("depth", depth)):
        if value < 1:
            raise NasproxyError(f"`{name} >= 1` must hold, but got {name}={value}.")
    if norm == "group" and width % 4:
        raise NasproxyError(f"`width` must be divisible by the 4 groups of norm='group', but got width={width}.")
    make_norm = _choice("norm", norm, NORMS)
    make_activation = _choice("activation", activation, ACTIVATIONS)
    make_pooling = _choice("pooling", pooling, POOLINGS)

    layers: list[nn.Module] = []
    for block in range(depth):
        padding = 1
        if block == 0 and (height, width_px) == (28, 28):
            padding, height, width_px = 3, 32, 32
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, padding=padding),
            make_norm(width, height, width_px),
            make_activation(),
        ]
        channels = width
        if pooling != "none":
            layers.append(make_pooling())
            height, width_px = height // 2, width_px // 2
            if min(height, width_px) < 1:
                raise NasproxyError(
                    f"Feature maps must stay at least 1×1, but {block + 1} poolings of a "
                    f"{input_shape[1]}×{input_shape[2]} input leave nothing: use a smaller depth or pooling='none'."
                )
    layers.append(nn.Flatten())
    if dropout:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(channels * height * width_px, num_classes))
    return nn.Sequential(*layers)


def mlp(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 128,
    depth: int = 2,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """``depth`` hidden layers of ``width`` units on the flattened image, then one linear layer ([DC], appendix A)."""
    for name, value in (("width", width), ("depth", depth)):
        if value < 1:
            raise NasproxyError(f"`{name} >= 1` must hold, but got {name}={value}.")
    make_activation = _choice("activation", activation, ACTIVATIONS)
    features = input_shape[0] * input_shape[1] * input_shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(features, width), make_activation()]
        features = width
    if dropout:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(features, num_classes))
    return nn.Sequential(*layers)


def seeded(build: Callable[[], nn.Module], seed: int, device: torch.device | None = None) -> nn.Module:
    """Calls ``build`` with the initialisation drawn from ``seed``; the global generators are left as they were.

    With ``device`` the net is created and initialised there, without a copy.
    """
    on_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.random.default_generator.manual_seed(seed)
        if device is None:
            return build()
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        with device:
            return build()


def num_params(net: nn.Module) -> int:
    """Trainable parameters of ``net``."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "mlp": mlp,
}
