"""The features of a net's blocks, for scores that look at them.

Reference: [AZ] Lee, Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nasproxy.scores.layers import LAYERS, NORMS

NOISE_IMAGES = 16  # [AZ] takes 64; every position of a map counts, so 16 give the same order (benchmarks/LOG.md)
NO_FEATURES = (nn.Flatten, nn.AdaptiveAvgPool2d)  # modules whose outputs are no features of a block


def features_of_noise(net: nn.Module, images: Tensor) -> list[Tensor]:
    """The features ``F_l`` of all blocks of ``net`` for noise of the shape of the first ``NOISE_IMAGES`` images [AZ].

    The weights are drawn anew, see :func:`draw_weights`. The noise is standard normal.
    """
    draw_weights(net)
    return block_outputs(net, torch.randn_like(images[:NOISE_IMAGES]))


def draw_weights(net: nn.Module) -> None:
    """Draws weights by Kaiming's rule with fan-in [AZ], from torch's global generator; norms scale by 1, shift by 0."""
    for module in net.modules():
        if isinstance(module, LAYERS):
            nn.init.kaiming_normal_(module.weight, mode="fan_in")
        elif isinstance(module, NORMS) and module.weight is not None:
            nn.init.ones_(module.weight)
        if isinstance(module, LAYERS + NORMS) and module.bias is not None:
            nn.init.zeros_(module.bias)


def block_outputs(net: nn.Module, images: Tensor) -> list[Tensor]:
    """The features ``F_l`` of ``net`` for ``images``, ``(n, c, h, w)`` or ``(n, c)`` each, with their graph.

    A block is a child of the net's outermost sequence that is a convolution, a linear layer or a module with children
    of its own, such as a cell without any layer, together with the norms, activations and poolings after it. Its
    feature is the last output among them. The classifier, which gives the net's output, is no block.
    """
    children = _children(net)
    found: list[Tensor] = []
    starts = {id(child): isinstance(child, LAYERS) or bool(list(child.children())) for child in children}

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> Tensor | None:
        if not isinstance(output, Tensor):
            return None
        kept = output.clone()  # the next module may work in place
        if starts[id(module)]:
            found.append(kept)
        elif found and not isinstance(module, NO_FEATURES):
            found[-1] = kept
        return kept

    handles = [child.register_forward_hook(watch) for child in children]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[:-1]


def _children(net: nn.Module) -> list[nn.Module]:
    """The children of the outermost module with several; those of a sequence in it stand in its place."""
    children = list(net.children())
    while len(children) == 1 and list(children[0].children()):
        children = list(children[0].children())
    return _flat(children)


def _flat(children: Iterable[nn.Module]) -> list[nn.Module]:
    flat: list[nn.Module] = []
    for child in children:
        flat += _flat(child) if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) else [child]
    return flat
