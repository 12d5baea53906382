"""The networks of NAS-Bench-Macro: eight layers, each of which is one of three operations.

Reference: Su et al., "Prioritized Architecture Sampling with Monte-Carlo Tree Search", CVPR 2021, whose benchmark has
the accuracies of all 6,561 networks on CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nasproxy.networks.blocks import choice
from nasproxy.networks.mobilenet import InvertedResidual

STAGES = (2, 3, 3)  # layers; each stage halves the side and doubles the channels
STEM = 32  # channels
HEAD = 1280

# Kernel and expansion of each operation; the benchmark writes them as the digits 0, 1 and 2.
OPERATIONS: dict[str, tuple[int, int] | None] = {"identity": None, "k3_e3": (3, 3), "k5_e6": (5, 6)}
DEFAULT = "k3_e3"


def nasbench_macro(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    layer_1: str = DEFAULT,
    layer_2: str = DEFAULT,
    layer_3: str = DEFAULT,
    layer_4: str = DEFAULT,
    layer_5: str = DEFAULT,
    layer_6: str = DEFAULT,
    layer_7: str = DEFAULT,
    layer_8: str = DEFAULT,
) -> nn.Module:
    """A 3×3 stem, three stages of 2, 3 and 3 layers, a 1×1 convolution, mean and linear, as in NAS-Bench-Macro.

    A layer is "identity", or an inverted residual with ReLU: "k3_e3" has kernel 3 and expansion 3, "k5_e6" kernel 5 and
    expansion 6. The first layer of a stage changes the shape, so "identity" is a 1×1 convolution with stride 2 there.

    Raises:
        NasproxyError: for an unknown operation.
    """
    chosen = iter((layer_1, layer_2, layer_3, layer_4, layer_5, layer_6, layer_7, layer_8))
    channels = STEM
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], STEM, 3, padding=1, bias=False),
        nn.BatchNorm2d(STEM),
        nn.ReLU(),
    ]
    for num in STAGES:
        for place in range(num):
            before, stride = (channels, 2) if place == 0 else (2 * channels, 1)
            layers.append(_layer(next(chosen), before, 2 * channels, stride))
        channels *= 2
    head = (nn.Conv2d(channels, HEAD, 1, bias=False), nn.BatchNorm2d(HEAD), nn.ReLU())
    return nn.Sequential(*layers, *head, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(HEAD, num_classes))


def _layer(operation: str, before: int, after: int, stride: int) -> nn.Module:
    shape = choice("operation", operation, OPERATIONS)
    if shape is not None:
        return InvertedResidual(before, after, *shape, stride, activation=nn.ReLU)
    if stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))


def layer_options(arch: str) -> dict[str, str]:
    """The options of a network that the benchmark writes as eight digits, such as ``01221012``.

    Raises:
        ValueError: for anything but eight digits from 0 to 2.
    """
    names = list(OPERATIONS)
    if len(arch) != sum(STAGES) or set(arch) - set("012"):
        raise ValueError(f"a network must be eight digits from 0 to 2, but is '{arch}'")
    return {f"layer_{place}": names[int(digit)] for place, digit in enumerate(arch, 1)}


def macro_function(options: Mapping[str, Any]) -> str:
    """What a network computes, as its operations: an identity that is not the first layer of a stage computes nothing.

    So the layers of a stage after the first count without identities: the 6,561 networks are 3,969 functions.
    """
    chosen = [str(options.get(f"layer_{place}", DEFAULT)) for place in range(1, sum(STAGES) + 1)]
    parts = []
    for num in STAGES:
        stage, chosen = chosen[:num], chosen[num:]
        parts.append(" ".join([stage[0], *(operation for operation in stage[1:] if operation != "identity")]))
    return " | ".join(parts)
