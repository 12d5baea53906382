"""The scores of AZ-NAS that look at the features of a net's blocks. Its fourth, complexity, is ``flops``.

``F_l`` is the feature of block l of a net in training mode, see
:func:`~nasproxy.scores.features.features_of_noise`.

Reference: [AZ] Lee, Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024. Its
aggregate of the four is :func:`~nasproxy.correlation.ranks.log_rank_sum`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from nasproxy.scores.fresh_net import FreshNet

SMALL = 1e-8  # keeps the logarithm of a share finite
SMALLEST_SIGMA = 1e-6


@torch.no_grad()
def _entropies(features: list[Tensor]) -> Tensor:
    """``H_l = −Σ p log(p + 10⁻⁸)``, ``p`` the eigenvalues of the covariance between channels of F_l, as shares."""
    return torch.stack([_entropy(feature) for feature in features]) if features else torch.zeros(0)


def _entropy(feature: Tensor) -> Tensor:
    values = feature.flatten(2) if feature.dim() > 2 else feature.unsqueeze(2)
    values = values.transpose(0, 1).flatten(1).double()  # channels × (images and positions)
    values = values - values.mean(1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(values @ values.T / values.shape[1]).clamp(min=0)
    whole = eigenvalues.sum()
    share = torch.where(whole > 0, eigenvalues / whole, 1.0)  # constant features have no entropy
    return torch.where(whole > 0, -(share * (share + SMALL).log()).sum(), 0.0)


def az_expressivity(fresh: FreshNet) -> float:
    """``Σ_l H_l``: how evenly the features of all blocks spread over the channels [AZ].

    ``H_l`` is the entropy of the eigenvalues of the covariance between channels.

    Cost: one forward pass.
    """
    return _entropies(fresh.features).sum().item()


def az_progressivity(fresh: FreshNet) -> float:
    """``min_l (H_l − H_{l−1})``: how much every block adds to that entropy [AZ]. Minus infinity for fewer than two.

    Cost: one forward pass.
    """
    growth = _entropies(fresh.features).diff()
    return growth.min().item() if len(growth) else -math.inf


def az_trainability(fresh: FreshNet) -> float:
    """The mean over blocks of ``2 − σ − 1 / (σ + 10⁻⁶)``, which is largest for σ = 1 [AZ].

    ``g_out`` are random signs at F_l and ``g_in`` its vector-Jacobian product at F_{l−1}, where a stride is unfolded
    into channels. σ is the largest singular value of ``g_inᵀ g_out / (images · positions)``. The score is minus
    infinity where a block passes gradients unchanged, and for fewer than two blocks.

    Cost: one forward and backward pass.
    """
    features = fresh.features
    parts, unchanged = [], []
    for before, after in pairwise(features):
        outgoing = torch.randint_like(after, 2) * 2 - 1
        found = torch.autograd.grad(after, before, outgoing, retain_graph=True, allow_unused=True)
        incoming = torch.zeros_like(before) if found[0] is None else found[0]
        if incoming.shape == outgoing.shape:
            unchanged.append((incoming == outgoing).all())
        left, right = _unfolded(incoming, after), _unfolded(outgoing, after)
        product = left @ right.T / right.shape[1]
        gram = product @ product.T if product.shape[0] < product.shape[1] else product.T @ product
        sigma = torch.linalg.eigvalsh(gram.double())[-1].clamp(min=0).sqrt()
        parts.append(2 - sigma - 1 / (sigma + SMALLEST_SIGMA))
    if not parts:
        return -math.inf
    mean = torch.stack(parts).mean()
    return (torch.where(torch.stack(unchanged).any(), -math.inf, mean) if unchanged else mean).item()


def _unfolded(gradient: Tensor, after: Tensor) -> Tensor:
    """``gradient`` as channels × (images · positions of ``after``); a larger map is unfolded into channels."""
    if gradient.dim() < 4:
        return gradient.flatten(1).T
    height, width = after.shape[2:] if after.dim() == 4 else (1, 1)
    own_height, own_width = gradient.shape[2:]
    if own_height % height == 0 and own_width % width == 0:
        n, channels = gradient.shape[:2]
        down, across = own_height // height, own_width // width
        split = gradient.reshape(n, channels, height, down, width, across)
        gradient = split.permute(0, 1, 3, 5, 2, 4).reshape(n, channels * down * across, height, width)
    else:
        gradient = functional.adaptive_avg_pool2d(gradient, (height, width))
    return gradient.flatten(2).transpose(0, 1).flatten(1)
