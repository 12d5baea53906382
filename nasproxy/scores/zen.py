"""The Zen-score: how much noise changes the features of a net.

References: [Zen] Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", ICCV 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasproxy.scores.fresh_net import FreshNet
from nasproxy.scores.layers import LAYERS, NORMS, hooked

ZEN_STEP = 0.01  # α of [Zen]
ZEN_IMAGES = 16
ZEN_REPEATS = 4  # [Zen] takes 32; the spread over draws is 1 % of that between candidates (benchmarks/LOG.md)


@torch.no_grad()
def zen(fresh: FreshNet) -> float:
    """``log E ‖f(x) − f(x + α ε)‖₁ + Σ_norms log √mean σ²``: how much noise changes the features, without norms [Zen].

    Weights, images ``x`` and ``ε`` are standard normal, from torch's global generator. ``f`` is the input of the global
    pooling, or else of the classifier, after the last convolution. ``σ²`` are the variances that a norm divides by.
    Differs from the reference: ``σ²`` is that of the batch, as in the paper's algorithm, where the code takes running
    averages; norms other than batch norm count, too; shortcuts are kept.

    Raises:
        ValueError: for a net without a linear classifier.

    Cost: eight forward passes of 16 images.
    """
    net, images = fresh.net, fresh.images
    found: list[Tensor] = []
    for _ in range(ZEN_REPEATS):
        for module in net.modules():
            if isinstance(module, LAYERS):
                module.weight.normal_()
            elif isinstance(module, NORMS) and module.weight is not None:
                module.weight.fill_(1)
            if isinstance(module, LAYERS + NORMS) and module.bias is not None:
                module.bias.zero_()
        x = torch.randn((ZEN_IMAGES, *images.shape[1:]), device=images.device)
        noise = torch.randn_like(x)
        features, scale = _features(net, x)
        moved, _ = _features(net, x + ZEN_STEP * noise)
        found.append((moved - features).double().flatten(1).abs().sum(1).mean().log() + scale)
    return torch.stack(found).mean().item()


def _features(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """``f(images)`` and ``Σ_norms log √mean σ²``."""
    head: list[Tensor] = []  # inputs of poolings and linear layers after the last convolution
    scales: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            head.clear()
        else:
            head.append(inputs[0])

    def weigh(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        values = inputs[0]
        if isinstance(module, nn.GroupNorm):
            groups = values.reshape(len(values), module.num_groups, -1)
        elif isinstance(module, nn.LayerNorm):
            groups = values.flatten(-len(module.normalized_shape))
        else:
            groups = values.transpose(0, 1).flatten(1)
        scales.append(0.5 * groups.var(-1, correction=0).mean().double().log())

    with hooked(net, (nn.Conv2d, nn.AdaptiveAvgPool2d, nn.Linear), watch), hooked(net, NORMS, weigh):
        net(images)
    if not head:
        raise ValueError("zen needs the features before a linear classifier or a global pooling, and this net has none")
    convolutional = any(isinstance(module, nn.Conv2d) for module in net.modules())
    scale = torch.stack(scales).sum() if scales else torch.zeros((), device=images.device)
    return head[0] if convolutional else head[-1], scale
