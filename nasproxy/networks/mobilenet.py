"""Networks of inverted residuals for small images, with choices per stage as in once-for-all spaces.

References: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, section 3; Hu, Shen,
Sun, "Squeeze-and-Excitation Networks", CVPR 2018, section 3; the per-stage choices: Cai et al., "Once-for-All", ICLR
2020, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from nasproxy.core.errors import NasproxyError
from nasproxy.networks.blocks import positive


class _SqueezeExcitation(nn.Module):
    """Multiplies every channel by a weight in (0, 1), which is computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = images * self.weigh(images)
        return result


class InvertedResidual(nn.Module):
    """A 1×1 expansion, a depthwise convolution, a 1×1 projection without activation; a shortcut where shapes allow."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        expansion: int,
        stride: int,
        squeeze: bool = False,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU6,
    ) -> None:
        super().__init__()
        inner = before * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), activation()]
        layers += [
            nn.Conv2d(inner, inner, kernel, stride=stride, padding=kernel // 2, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            activation(),
        ]
        if squeeze:
            layers.append(_SqueezeExcitation(inner))
        layers += [nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and before == after

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.body(images)
        return images + result if self.residual else result


def mobilenet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 16,
    depth_1: int = 2,
    depth_2: int = 2,
    depth_3: int = 2,
    kernel_1: int = 3,
    kernel_2: int = 3,
    kernel_3: int = 3,
    expansion_1: int = 3,
    expansion_2: int = 3,
    expansion_3: int = 3,
    squeeze_excitation: bool = False,
) -> nn.Module:
    """A 3×3 stem, then three stages of inverted residuals with 1, 2, 4 · ``width`` channels, then mean and linear.

    Stage s has ``depth_s`` blocks with a depthwise ``kernel_s`` and ``expansion_s`` times the channels inside. The
    second and third stage halve the side. ``squeeze_excitation`` adds squeeze-and-excitation to every block.

    Raises:
        NasproxyError: for an even kernel, or a number below 1.
    """
    stages = ((depth_1, kernel_1, expansion_1), (depth_2, kernel_2, expansion_2), (depth_3, kernel_3, expansion_3))
    for depth, kernel, expansion in stages:
        positive(width=width, depth=depth, kernel=kernel, expansion=expansion)
        if kernel % 2 == 0:
            raise NasproxyError(f"A kernel must be odd, to keep the side of a map, but got {kernel}.")
    channels = width
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    ]
    for stage, (depth, kernel, expansion) in enumerate(stages):
        for number in range(depth):
            stride = 2 if stage > 0 and number == 0 else 1
            after = width * 2**stage
            layers.append(InvertedResidual(channels, after, kernel, expansion, stride, squeeze_excitation))
            channels = after
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return nn.Sequential(*layers, *head)
