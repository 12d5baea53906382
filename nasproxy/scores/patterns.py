"""Scores that count what a net tells apart: patterns of activations, and channels that say different things.

References: [SWAP] Peng, Song, Fayek, Ciesielski, Chang, "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast
NAS", ICLR 2024 · [MeCo] Jiang, Wang, Bie, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
Eigenvalue of Correlation", NeurIPS 2023.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from nasproxy.networks import num_params
from nasproxy.scores.fresh_net import FreshNet, total

# μ and σ of SWAP's regularisation, for thousands of parameters. [SWAP] tunes them for each space, and those for one
# space say nothing of another. These favour about 500,000 parameters.
SWAP_CENTRE, SWAP_WIDTH = 500.0, 250_000.0
SOME_CHANNELS = 8  # of an output, in the cheaper variant of [MeCo]


def swap(fresh: FreshNet) -> float:
    """The number of different patterns among neurons: for each, on which images its activation is positive [SWAP].

    Every activation module of ``torch.nn`` counts by the sign of its input, as for ``naswot``. [SWAP] defines it for
    ReLU. It is at most ``2^n`` for n images.

    Raises:
        ValueError: for a net without activation modules.

    Cost: one forward pass.
    """
    if not fresh.signs:
        raise ValueError("swap counts activation modules, and this net has none: use nn.ReLU for functional.relu")
    codes = _codes(torch.cat(fresh.signs, dim=1).cpu().numpy())
    patterns = codes[0]
    for more in codes[1:]:  # numbers of pairs of codes, which are far fewer than codes can be
        _, first = np.unique(patterns, return_inverse=True)
        others, second = np.unique(more, return_inverse=True)
        patterns = first * len(others) + second
    return float(len(np.unique(patterns)))


def _codes(signs: np.ndarray) -> np.ndarray:
    """The columns of ``signs`` ``(n, neurons)`` as numbers of 64 bits, ``(⌈n / 64⌉, neurons)``."""
    packed = np.packbits(signs, axis=0)
    packed = np.pad(packed, ((0, -len(packed) % 8), (0, 0)))
    words = packed.reshape(-1, 8, signs.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(words).view(np.uint64)[..., 0]


def swap_regularised(fresh: FreshNet) -> float:
    """``swap · exp(−(P − μ)² / σ)``, ``P`` thousands of parameters [SWAP], with μ = 500 and σ = 250,000 here.

    Differs from [SWAP]: it tunes μ and σ for each space; here they are the same for all.

    Cost: one forward pass.
    """
    thousands = num_params(fresh.net) / 1000
    return swap(fresh) * math.exp(-((thousands - SWAP_CENTRE) ** 2) / SWAP_WIDTH)


def meco(fresh: FreshNet) -> float:
    """The sum over modules of the least eigenvalue of the correlation between the channels of their output [MeCo].

    The net sees one standard normal image. A channel that is constant has the correlation 0 with all others, and 1 with
    itself. Modules are those without children whose output is a feature map of several channels. Differs from the
    released code: the image has the size of the data, and not 64 × 64, for which not every net is made.

    Cost: one forward pass of one image.
    """
    return _meco(fresh, None)


def meco_opt(fresh: FreshNet) -> float:
    """:func:`meco` of eight random channels of each output of ``c`` channels, times ``c / 8`` [MeCo].

    Cost: one forward pass of one image.
    """
    return _meco(fresh, SOME_CHANNELS)


@torch.no_grad()
def _meco(fresh: FreshNet, some: int | None) -> float:
    found: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[1] > 1 and output[0, 0].numel() > 1:
            channels, times = output[0].flatten(1).double(), 1.0
            if some is not None and len(channels) > some:
                times = len(channels) / some
                channels = channels[torch.randperm(len(channels), device=channels.device)[:some]]
            found.append(times * _least_eigenvalue(channels))

    leaves = [module for module in fresh.net.modules() if not list(module.children())]
    noise = torch.randn_like(fresh.images[:1])
    handles = [module.register_forward_hook(watch) for module in leaves]
    try:
        fresh.net.eval()(noise)
    finally:
        for handle in handles:
            handle.remove()
    return total(found)


def _least_eigenvalue(channels: Tensor) -> Tensor:
    """Of the correlation matrix of the rows."""
    centred = channels - channels.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, centred / norms.clamp(min=1e-300), torch.zeros_like(centred))
    correlation = unit @ unit.T
    correlation.fill_diagonal_(1.0)
    return torch.linalg.eigvalsh(correlation)[0]
