"""Residual networks of any depth and width for small images.

References: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2; bottlenecks:
table 1.
"""

from __future__ import annotations

from torch import Tensor, nn

from nasproxy.core.errors import NasproxyError, unknown
from nasproxy.networks.blocks import ACTIVATIONS, choice, make_norm, positive

BLOCKS = ("basic", "bottleneck")
STEMS = ("conv3", "conv5", "conv3_pool")


class _Block(nn.Module):
    """Convolutions and a shortcut around them; the activation follows the sum. The first 3×3 one has ``stride``."""

    def __init__(
        self,
        kernels: tuple[tuple[int, int], ...],
        before: int,
        shape: tuple[int, int],
        stride: int,
        norm: str,
        activation: str,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        (h, w), channels, left = shape, before, stride
        for number, (kernel, after) in enumerate(kernels):
            own = left if kernel == 3 else 1
            left = 1 if kernel == 3 else left
            h, w = -(-h // own), -(-w // own)
            if number > 0:
                layers.append(choice("activation", activation, ACTIVATIONS)())
            layers += [
                nn.Conv2d(channels, after, kernel, stride=own, padding=kernel // 2, bias=False),
                make_norm(norm, after, h, w),
            ]
            channels = after
        self.body = nn.Sequential(*layers)
        self.shape = h, w
        self.channels = channels
        self.activation = choice("activation", activation, ACTIVATIONS)()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            projection = nn.Conv2d(before, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, make_norm(norm, channels, h, w))

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.activation(self.body(images) + self.shortcut(images))
        return result


def resnet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 16,
    blocks: int = 2,
    stages: int = 3,
    block: str = "basic",
    expansion: int = 4,
    norm: str = "batch",
    activation: str = "relu",
    stem: str = "conv3",
) -> nn.Module:
    """A stem, then ``stages`` of ``blocks`` blocks with 1, 2, 4 … · ``width`` channels, then mean and linear.

    The first block of every stage but the first halves the side. ``block="basic"`` is two 3×3 convolutions;
    ``"bottleneck"`` is 1×1, 3×3 and 1×1, with ``expansion`` times the channels at its end. ``stem="conv3_pool"`` halves
    the side by a max pool after the 3×3 convolution. With two blocks, three stages and width 16 it is ResNet-14 of
    the family that the paper trains on CIFAR-10.

    Raises:
        NasproxyError: for an unknown option, or maps of one pixel under ``norm="instance"``, which makes them zero.
    """
    positive(width=width, blocks=blocks, stages=stages, expansion=expansion)
    for kind, name, known in (("block", block, BLOCKS), ("stem", stem, STEMS)):
        if name not in known:
            raise unknown(kind, name, known)
    channels, h, w = input_shape
    kernel = 5 if stem == "conv5" else 3
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False),
        make_norm(norm, width, h, w),
        choice("activation", activation, ACTIVATIONS)(),
    ]
    if stem == "conv3_pool":
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        h, w = (h + 1) // 2, (w + 1) // 2
    channels = width
    for stage in range(stages):
        inner = width * 2**stage
        kernels = ((3, inner), (3, inner)) if block == "basic" else ((1, inner), (3, inner), (1, inner * expansion))
        for number in range(blocks):
            stride = 2 if stage > 0 and number == 0 else 1
            made = _Block(kernels, channels, (h, w), stride, norm, activation)
            layers.append(made)
            (h, w), channels = made.shape, made.channels
    if norm == "instance" and h * w == 1:
        raise NasproxyError(
            f"Maps must keep more than one pixel under norm='instance', which turns 1×1 maps into zeros, but "
            f"{input_shape[1]}×{input_shape[2]} images end as one after {stages} stages: use fewer, or another norm."
        )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
