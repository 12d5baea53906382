"""Network families: one function each, flat arguments in, an ``nn.Module`` out.

Every family has the signature ``family(input_shape, num_classes, **options)``, where ``input_shape`` is ``(c, h, w)``
in pixels and every option has a default. A family raises :class:`~nasproxy.errors.NasproxyError` when the options
cannot be built for that input. To add one, write a function and name it in ``NETWORKS`` at the bottom of the file.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, section 4 and
appendix A. Dong, Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

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
    _positive(width=width, depth=depth)
    make_activation = _choice("activation", activation, ACTIVATIONS)
    make_pooling = _choice("pooling", pooling, POOLINGS)

    layers: list[nn.Module] = []
    for block in range(depth):
        padding = 1
        if block == 0 and (height, width_px) == (28, 28):
            padding, height, width_px = 3, 32, 32
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, padding=padding),
            make_norm(norm, width, height, width_px),
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
    _positive(width=width, depth=depth)
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


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise NasproxyError(f"`{name} >= 1` must hold, but got {name}={value}.")


@dataclass
class _Stack:
    """Layers one after the other, and the shape ``(c, h, w)`` after the last one."""

    shape: tuple[int, int, int]
    norm: str
    activation: str
    layers: list[nn.Module] = field(default_factory=list)

    def convolution(self, channels: int, kernel: int, *, padding: int) -> None:
        """Convolution → norm → activation."""
        c, h, w = self.shape
        h, w = h + 2 * padding - kernel + 1, w + 2 * padding - kernel + 1
        self.shape = _at_least_one_pixel(channels, h, w)
        self.layers += [
            nn.Conv2d(c, channels, kernel, padding=padding),
            make_norm(self.norm, *self.shape),
            _choice("activation", self.activation, ACTIVATIONS)(),
        ]

    def pool(self) -> None:
        """2 × 2 maximum pooling."""
        c, h, w = self.shape
        self.shape = _at_least_one_pixel(c, h // 2, w // 2)
        self.layers.append(nn.MaxPool2d(2))

    def head(self, *features: int) -> nn.Module:
        """Linear layers with the activation in between, on the flattened features; closes the stack."""
        c, h, w = self.shape
        sizes = [c * h * w, *features]
        self.layers.append(nn.Flatten())
        for number, (before, after) in enumerate(pairwise(sizes)):
            if number > 0:
                self.layers.append(_choice("activation", self.activation, ACTIVATIONS)())
            self.layers.append(nn.Linear(before, after))
        return nn.Sequential(*self.layers)


def _at_least_one_pixel(channels: int, height: int, width: int) -> tuple[int, int, int]:
    if min(height, width) < 1:
        raise NasproxyError(
            "Feature maps must stay at least 1×1, but these images are too small for the net: use larger images, "
            "or a convnet of small depth."
        )
    return channels, height, width


def make_norm(norm: str, channels: int, height: int, width: int) -> nn.Module:
    """The norm called ``norm`` of maps ``(channels, height, width)``.

    Raises:
        NasproxyError: for an unknown name, or channels that the 4 groups of "group" do not divide.
    """
    if norm == "group" and channels % 4:
        raise NasproxyError(
            f"Channels must be divisible by the 4 groups of norm='group', but got {channels} channels: "
            "use another width."
        )
    return _choice("norm", norm, NORMS)(channels, height, width)


def _padded(input_shape: tuple[int, int, int], padding: int) -> int:
    """The first convolution's padding: 28 × 28 becomes 32 × 32, as in the reference."""
    return padding + 2 if input_shape[1:] == (28, 28) else padding


def lenet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 6,
    activation: str = "relu",
    norm: str = "none",
) -> nn.Module:
    """LeNet-5: [conv 5×5, ``width`` → max pool → conv 5×5, 16/6 · ``width`` → max pool], then linear 120 and 84.

    Raises:
        NasproxyError: for an unknown option, or images under 16 × 16.
    """
    _positive(width=width)
    stack = _Stack(input_shape, norm, activation)
    stack.convolution(width, 5, padding=_padded(input_shape, 0))
    stack.pool()
    stack.convolution(width * 16 // 6, 5, padding=0)
    stack.pool()
    return stack.head(120, 84, num_classes)


def alexnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 128,
    activation: str = "relu",
    norm: str = "none",
) -> nn.Module:
    """AlexNet for small images: convolutions of 1, 1.5, 2, 1.5, 1.5 · ``width`` channels, three max pools, one linear.

    Raises:
        NasproxyError: for an unknown option, or images under 8 × 8.
    """
    _positive(width=width)
    stack = _Stack(input_shape, norm, activation)
    stack.convolution(width, 5, padding=_padded(input_shape, 2))
    stack.pool()
    stack.convolution(width * 3 // 2, 5, padding=2)
    stack.pool()
    for channels in (width * 2, width * 3 // 2, width * 3 // 2):
        stack.convolution(channels, 3, padding=1)
    stack.pool()
    return stack.head(num_classes)


def vgg11(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 64,
    activation: str = "relu",
    norm: str = "instance",
) -> nn.Module:
    """VGG-11 for small images: eight 3×3 convolutions of 1 to 8 · ``width`` channels, five max pools, one linear layer.

    Raises:
        NasproxyError: for an unknown option, or images under 32 × 32 (28 × 28 are padded).
    """
    _positive(width=width)
    stack = _Stack(input_shape, norm, activation)
    padding = _padded(input_shape, 1)
    for factors in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for factor in factors:
            stack.convolution(width * factor, 3, padding=padding)
            padding = 1
        stack.pool()
    return stack.head(num_classes)


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; the first of them has ``stride``."""

    def __init__(
        self, before: int, after: int, shape: tuple[int, int], stride: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = make_norm(norm, after, *shape)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, after, *shape)
        self.activation = _choice("activation", activation, ACTIVATIONS)()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, make_norm(norm, after, *shape))

    def forward(self, images: Tensor) -> Tensor:
        inner = self.activation(self.norm1(self.first(images)))
        result: Tensor = self.activation(self.norm2(self.second(inner)) + self.shortcut(images))
        return result


def resnet18(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 64,
    activation: str = "relu",
    norm: str = "instance",
) -> nn.Module:
    """ResNet-18 for small images: a 3×3 stem, four stages of two blocks with 1 to 8 · ``width`` channels, mean, linear.

    Raises:
        NasproxyError: for an unknown option, or images up to 8 × 8 with ``norm="instance"``.
    """
    _positive(width=width)
    channels, h, w = input_shape
    if norm == "instance" and max(h, w) <= 8:
        raise NasproxyError(
            f"Maps must keep more than one pixel under norm='instance', which turns 1×1 maps into zeros, but {h}×{w} "
            "images end as one: use larger images, or another norm."
        )
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        make_norm(norm, width, h, w),
        _choice("activation", activation, ACTIVATIONS)(),
    ]
    channels = width
    for factor in (1, 2, 4, 8):
        for stride in (1 if factor == 1 else 2, 1):
            h, w = -(-h // stride), -(-w // stride)
            layers.append(_ResidualBlock(channels, factor * width, (h, w), stride, norm, activation))
            channels = factor * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


# ----------------------------------------------------------------------------------------------------- NAS-Bench-201

CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class _Zero(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images)


def _pre_activated(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU → convolution without bias → batch norm."""
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(after))


def _operation(name: str, channels: int) -> nn.Module:
    if name == "none":
        return _Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return _pre_activated(channels, channels, 1 if name == "nor_conv_1x1" else 3)


class _Cell(nn.Module):
    """Node j of four is the sum of ``edges[(i, j)]`` applied to every node i before it."""

    def __init__(self, operations: dict[tuple[int, int], str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict({f"{i}-{j}": _operation(name, channels) for (i, j), name in operations.items()})

    def forward(self, images: Tensor) -> Tensor:
        nodes = [images]
        for j in range(1, 4):
            inputs = [self.edges[f"{i}-{j}"](nodes[i]) for i in range(j)]
            nodes.append(torch.stack(inputs).sum(0))
        return nodes[-1]


class _Reduction(nn.Module):
    """The benchmark's residual block between two stages: half the side, twice the channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = _pre_activated(before, after, 3, stride=2)
        self.second = _pre_activated(after, after, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(images)) + self.shortcut(images)
        return result


def nasbench201(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    edge_01: str = "nor_conv_3x3",
    edge_02: str = "nor_conv_3x3",
    edge_12: str = "nor_conv_3x3",
    edge_03: str = "nor_conv_3x3",
    edge_13: str = "nor_conv_3x3",
    edge_23: str = "nor_conv_3x3",
    cells: int = 5,
    channels: int = 16,
) -> nn.Module:
    """A cell of NAS-Bench-201 in its skeleton: stem, three stages of ``cells`` cells with 1, 2, 4 · ``channels``, mean.

    ``edge_ij`` is the operation from node i to node j of the cell. The benchmark's own nets have five cells and 16
    channels. Source: Dong, Yang, "NAS-Bench-201", ICLR 2020, section 2.

    Raises:
        NasproxyError: for an unknown operation.
    """
    _positive(cells=cells, channels=channels)
    operations = {(0, 1): edge_01, (0, 2): edge_02, (1, 2): edge_12, (0, 3): edge_03, (1, 3): edge_13, (2, 3): edge_23}
    for name in operations.values():
        if name not in CELL_OPERATIONS:
            raise unknown("operation", name, CELL_OPERATIONS)
    width = channels
    layers: list[nn.Module] = [nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
    for stage in range(3):
        if stage > 0:
            layers.append(_Reduction(width, 2 * width))
            width *= 2
        layers += [_Cell(operations, width) for _ in range(cells)]
    head = (nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    return nn.Sequential(*layers, *head)


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


def family_options(family: str, *, width: int, depth: int, norm: str) -> dict[str, int | str]:
    """Those of the settings of a matching net that ``family`` has a say for.

    ``width`` and ``depth`` go together; a family of fixed depth keeps its published width.
    """
    known = inspect.signature(NETWORKS[family]).parameters
    options: dict[str, int | str] = {"width": width, "depth": depth} if "depth" in known else {}
    return options | ({"norm": norm} if "norm" in known else {})


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "convnet": convnet,
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "resnet18": resnet18,
    "nasbench201": nasbench201,
}
