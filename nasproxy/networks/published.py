"""The networks that papers on dataset condensation compare: ConvNet, MLP, LeNet, AlexNet, VGG-11 and ResNet-18.

References: [DC] Zhao, Mopuri, Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, section 4 and
appendix A.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor, nn

from nasproxy.core.errors import NasproxyError
from nasproxy.networks.blocks import ACTIVATIONS, POOLINGS, at_least_one_pixel, choice, make_norm, padded, positive


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

    The defaults are the matching net of [DC], and the options span its grid of 720 architectures. As there, the first
    convolution pads inputs of 28 × 28 to 32 × 32. ``dropout`` acts on the flattened features.

    Raises:
        NasproxyError: for an unknown option, ``width`` not divisible by the 4 groups of ``norm="group"``, or a map
            pooled below 1 × 1.
    """
    channels, height, width_px = input_shape
    positive(width=width, depth=depth)
    make_activation = choice("activation", activation, ACTIVATIONS)
    make_pooling = choice("pooling", pooling, POOLINGS)

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
    """``depth`` hidden layers of ``width`` units on the flattened image, then one linear layer ([DC], appendix A).

    Raises:
        NasproxyError: for an unknown activation, or a number below 1.
    """
    positive(width=width, depth=depth)
    make_activation = choice("activation", activation, ACTIVATIONS)
    features = input_shape[0] * input_shape[1] * input_shape[2]
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(features, width), make_activation()]
        features = width
    if dropout:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(features, num_classes))
    return nn.Sequential(*layers)


@dataclass
class _Stack:
    """Layers that are applied one after the other, and the shape ``(c, h, w)`` after the last one."""

    shape: tuple[int, int, int]
    norm: str
    activation: str
    layers: list[nn.Module] = field(default_factory=list)

    def convolution(self, channels: int, kernel: int, *, padding: int) -> None:
        """Convolution → norm → activation."""
        c, h, w = self.shape
        h, w = h + 2 * padding - kernel + 1, w + 2 * padding - kernel + 1
        self.shape = at_least_one_pixel(channels, h, w)
        self.layers += [
            nn.Conv2d(c, channels, kernel, padding=padding),
            make_norm(self.norm, *self.shape),
            choice("activation", self.activation, ACTIVATIONS)(),
        ]

    def pool(self) -> None:
        """2 × 2 maximum pooling."""
        c, h, w = self.shape
        self.shape = at_least_one_pixel(c, h // 2, w // 2)
        self.layers.append(nn.MaxPool2d(2))

    def head(self, *features: int) -> nn.Module:
        """Ends the stack with linear layers on the flattened features, and the activation between them."""
        c, h, w = self.shape
        sizes = [c * h * w, *features]
        self.layers.append(nn.Flatten())
        for number, (before, after) in enumerate(pairwise(sizes)):
            if number > 0:
                self.layers.append(choice("activation", self.activation, ACTIVATIONS)())
            self.layers.append(nn.Linear(before, after))
        return nn.Sequential(*self.layers)


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
    positive(width=width)
    stack = _Stack(input_shape, norm, activation)
    stack.convolution(width, 5, padding=padded(input_shape, 0))
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
    positive(width=width)
    stack = _Stack(input_shape, norm, activation)
    stack.convolution(width, 5, padding=padded(input_shape, 2))
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
    positive(width=width)
    stack = _Stack(input_shape, norm, activation)
    padding = padded(input_shape, 1)
    for factors in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for factor in factors:
            stack.convolution(width * factor, 3, padding=padding)
            padding = 1
        stack.pool()
    return stack.head(num_classes)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut around them; the first convolution has ``stride``."""

    def __init__(
        self, before: int, after: int, shape: tuple[int, int], stride: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = make_norm(norm, after, *shape)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, after, *shape)
        self.activation = choice("activation", activation, ACTIVATIONS)()
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
    positive(width=width)
    channels, h, w = input_shape
    if norm == "instance" and max(h, w) <= 8:
        raise NasproxyError(
            f"Maps must keep more than one pixel under norm='instance', which turns 1×1 maps into zeros, but {h}×{w} "
            "images end as one: use larger images, or another norm."
        )
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        make_norm(norm, width, h, w),
        choice("activation", activation, ACTIVATIONS)(),
    ]
    channels = width
    for factor in (1, 2, 4, 8):
        for stride in (1 if factor == 1 else 2, 1):
            h, w = -(-h // stride), -(-w // stride)
            layers.append(ResidualBlock(channels, factor * width, (h, w), stride, norm, activation))
            channels = factor * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
