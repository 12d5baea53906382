"""Scores that count what a net tells apart: patterns of activations, and channels that say different things.

References: [SWAP] Peng, Song, Fayek, Ciesielski, Chang, "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast
NAS", ICLR 2024 · [MeCo] Jiang, Wang, Bie, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
Eigenvalue of Correlation", NeurIPS 2023.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nasproxy.networks import num_params
from nasproxy.scores.layers import activation_kinds

# μ and σ of SWAP's regularisation, for thousands of parameters. [SWAP] tunes them for each space, and those for one
# space say nothing of another. These favour about 500,000 parameters.
SWAP_CENTRE, SWAP_WIDTH = 500.0, 250_000.0
BITS = 62  # images in a code


@torch.no_grad()
def swap(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The number of different patterns among neurons: for each, on which images its activation is positive [SWAP].

    Every activation module of ``torch.nn`` counts by the sign of its input, as for ``naswot``. [SWAP] defines it for
    ReLU. It is at most ``2^n`` for n images.

    Raises:
        ValueError: for a net without activation modules.

    Cost: one forward pass.
    """
    kinds = activation_kinds(net)
    if not kinds:
        raise ValueError("swap counts activation modules, and this net has none: use nn.ReLU for functional.relu")
    codes: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        positive = (inputs[0].flatten(1) > 0).long()  # images × neurons
        parts = []
        for some in positive.split(BITS):
            code = torch.zeros_like(some[0])
            for place, row in enumerate(some):
                code |= row << place
            parts.append(code)
        codes.append(torch.stack(parts, dim=1))

    handles = [module.register_forward_pre_hook(watch) for module in net.modules() if isinstance(module, kinds)]
    net(images)
    for handle in handles:
        handle.remove()
    found = torch.cat(codes)
    for column in range(1, found.shape[1]):  # numbers of pairs of codes, which are far fewer than codes can be
        _, first = torch.unique(found[:, 0], return_inverse=True)
        others, second = torch.unique(found[:, column], return_inverse=True)
        found[:, 0] = first * len(others) + second
    return float(len(torch.unique(found[:, 0])))


def swap_regularised(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``swap · exp(−(P − μ)² / σ)``, ``P`` thousands of parameters [SWAP], with μ = 500 and σ = 250,000 here.

    Differs from [SWAP]: it tunes μ and σ for each space; here they are the same for all.

    Cost: one forward pass.
    """
    thousands = num_params(net) / 1000
    return swap(net, images, labels) * math.exp(-((thousands - SWAP_CENTRE) ** 2) / SWAP_WIDTH)


@torch.no_grad()
def meco(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum over modules of the least eigenvalue of the correlation between the channels of their output [MeCo].

    The net sees one standard normal image. A channel that is constant has the correlation 0 with all others, and 1 with
    itself. Modules are those without children whose output is a feature map of several channels. Differs from the
    released code: the image has the size of the data, and not 64 × 64, for which not every net is made.

    Cost: one forward pass of one image.
    """
    found: list[float] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[1] > 1 and output[0, 0].numel() > 1:
            found.append(_least_eigenvalue(output[0].flatten(1).double()))

    leaves = [module for module in net.modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch) for module in leaves]
    try:
        net.eval()(torch.randn_like(images[:1]))
    finally:
        for handle in handles:
            handle.remove()
    return sum(found)


def _least_eigenvalue(channels: Tensor) -> float:
    """Of the correlation matrix of the rows."""
    centred = channels - channels.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, centred / norms.clamp(min=1e-300), torch.zeros_like(centred))
    correlation = unit @ unit.T
    correlation.fill_diagonal_(1.0)
    return torch.linalg.eigvalsh(correlation)[0].item()
