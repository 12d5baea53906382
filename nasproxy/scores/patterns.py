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

# μ and σ of SWAP's regularisation, in thousands of parameters. [SWAP] tunes them for each space, and those for one
# space say nothing of another. These favour about 500,000 parameters.
SWAP_CENTRE, SWAP_WIDTH = 500.0, 500.0
MECO_SIDE = 64  # pixels of the one image


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
    # Two random sums tell patterns apart; that two different ones agree in both has no chance to speak of.
    weights = torch.rand((len(images), 2), dtype=torch.float64, device=images.device)

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        codes.append((inputs[0].flatten(1) > 0).double().T @ weights)

    handles = [module.register_forward_pre_hook(watch) for module in net.modules() if isinstance(module, kinds)]
    net(images)
    for handle in handles:
        handle.remove()
    return float(len(torch.unique(torch.cat(codes).round(decimals=9), dim=0)))


def swap_regularised(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """``swap · exp(−(P − μ)² / σ²)``, ``P`` thousands of parameters [SWAP], with μ = σ = 500 here.

    Differs from [SWAP]: it tunes μ and σ for each space; here they are the same for all.

    Cost: one forward pass.
    """
    thousands = num_params(net) / 1000
    return swap(net, images, labels) * math.exp(-(((thousands - SWAP_CENTRE) / SWAP_WIDTH) ** 2))


@torch.no_grad()
def meco(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum over modules of the least eigenvalue of the correlation between the channels of their output [MeCo].

    The net sees one standard normal image of 64 × 64, or of the data's size where the net takes no other. A channel
    that is constant has the correlation 0 with all others, and 1 with itself. Modules are those without children whose
    output is a feature map of several channels.

    Cost: one forward pass of one image.
    """
    found: list[float] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[1] > 1 and output[0, 0].numel() > 1:
            found.append(_least_eigenvalue(output[0].flatten(1).double()))

    leaves = [module for module in net.modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch) for module in leaves]
    try:
        for side in ((MECO_SIDE, MECO_SIDE), tuple(images.shape[2:])):
            found.clear()
            try:
                net.eval()(torch.randn((1, images.shape[1], *side), device=images.device))
                break
            except RuntimeError:
                if side == tuple(images.shape[2:]):
                    raise
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
